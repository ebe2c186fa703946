"""The ``dit4c`` command. Every expected error is one line that says what to do.

Each group of commands has a file with ``add(commands)``, which imports its code only when a command
runs.
"""

import argparse
import sys
from collections.abc import Sequence

from dit4c_p2p import __version__
from dit4c_p2p.atomic_file import full_disk_hint
from dit4c_p2p.cli import (
    accounts,
    audit,
    components,
    images,
    keys,
    local,
    people,
    remote,
    settings,
    tokens,
)
from dit4c_p2p.errors import DitError

_PROBLEM = 1
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except DitError as error:
        print(f"dit4c: {error.one_line()}", file=sys.stderr)
        return getattr(error, "exit_code", _PROBLEM)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        found = DitError(f"{where}{error.strerror or error}", hint=full_disk_hint(error))
        print(f"dit4c: {found.one_line()}", file=sys.stderr)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _PROBLEM


def make_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    parser = argparse.ArgumentParser(
        prog="dit4c",
        description="Containerized research tools in the browser, on machines that people lend.",
        epilog="'dit4c COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"dit4c {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_commands in (
        local.add_up_and_down_commands,
        remote.add_user_commands,
        components.add_component_commands,
        settings.add_config_commands,
        people.add_login_link_command,
        accounts.add_account_commands,
        tokens.add_token_commands,
        keys.add_key_commands,
        images.add_images_commands,
        audit.add_audit_commands,
    ):
        add_commands(commands)
    return parser
