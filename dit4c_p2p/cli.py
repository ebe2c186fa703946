"""The ``dit4c`` command. Every error a person can act on is one line that says what to do."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dit4c_p2p import __version__
from dit4c_p2p.config import UpConfig, default_data_folder
from dit4c_p2p.errors import DitError

if TYPE_CHECKING:
    # argparse gives the type of add_subparsers() no public name.
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_PROBLEM = 1
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except DitError as error:
        print(f"dit4c: {error.one_line()}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"dit4c: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _PROBLEM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dit4c",
        description="Containerized research tools in the browser, on machines that people lend.",
        epilog="'dit4c COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"dit4c {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_down(commands)
    _add_login_link(commands)
    _add_key(commands)
    return parser


def _add_up(commands: "_Commands") -> None:
    up = commands.add_parser(
        "up",
        help="run the whole system on this machine",
        description="Runs portal, scheduler, router and one node agent in one process, with SQLite "
        "and this machine's Docker engine. Builds the images it needs, then prints a one-time link "
        "to log in with. Ctrl-C stops it within 10 s; instances live on and are found again by the "
        "next 'dit4c up' with the same folder.",
    )
    _add_data_dir(up)
    up.add_argument(
        "--portal-port", type=int, default=8080, metavar="N", help="the portal's port (8080)"
    )
    up.add_argument(
        "--router-port", type=int, default=8081, metavar="N", help="instances' web port (8081)"
    )
    up.add_argument(
        "--router-ssh-port",
        type=int,
        default=8022,
        metavar="N",
        help="the router's SSH port (8022)",
    )
    up.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="written (mode 0600) once everything answers: JSON with portal, router, router_ssh, "
        "login_url and api_token (ready.json in the data folder)",
    )
    up.add_argument("-v", "--verbose", action="store_true", help="show the log here as well")
    up.set_defaults(run=_run_up)


def _add_down(commands: "_Commands") -> None:
    down = commands.add_parser(
        "down",
        help="remove every instance of a data folder",
        description="Removes the containers, networks and volumes of all instances that belong to "
        "the data folder, whether or not 'dit4c up' runs. Keys, accounts and images stay.",
    )
    _add_data_dir(down)
    down.set_defaults(run=_run_down)


def _add_login_link(commands: "_Commands") -> None:
    link = commands.add_parser(
        "login-link",
        help="make a one-time link that logs a person in",
        description="Prints a link that logs PERSON in once, within 24 hours.",
    )
    link.add_argument("person", metavar="PERSON", help="whom it logs in, such as admin")
    _add_data_dir(link)
    link.set_defaults(run=_run_login_link)


def _add_key(commands: "_Commands") -> None:
    key = commands.add_parser("key", help="manage the keys that the portal publishes")
    actions = key.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = actions.add_parser(
        "add",
        help="publish a peer's key",
        description="Proves to the portal that you hold the private key in FILE and publishes its "
        "public half for the peer KIND-ID. Needs an admin's API token: the one of the running "
        "'dit4c up' (--data-dir), or --portal with the token in DIT4C_TOKEN.",
    )
    add.add_argument("kind", metavar="KIND", help="scheduler, router, node, … or user")
    add.add_argument("id", metavar="ID", help="1 to 40 of a-z, 0-9 and -")
    add.add_argument(
        "file", metavar="FILE", type=Path, help="the private key, or a .pub whose key ssh-agent has"
    )
    add.add_argument(
        "--scheduler", metavar="ID", help="for a node: the scheduler that it belongs to"
    )
    add.add_argument("--portal", metavar="URL", help="the portal's URL")
    _add_data_dir(add)
    add.set_defaults(run=_run_key_add)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_folder(),
        metavar="DIR",
        help="where keys, databases and logs are kept (default: %(default)s)",
    )


def _run_up(options: argparse.Namespace) -> int:
    import uvloop

    from dit4c_p2p.observe import log_to
    from dit4c_p2p.process import own_folder
    from dit4c_p2p.up import up

    config = UpConfig(
        data_folder=options.data_dir.absolute(),
        portal_port=options.portal_port,
        router_port=options.router_port,
        router_ssh_port=options.router_ssh_port,
        ready_file=options.ready_file,
    )
    with own_folder(config.data_folder):
        log_to(
            config.data_folder / "dit4c.log",
            terminal=logging.INFO if options.verbose else logging.WARNING,
        )
        uvloop.run(up(config))
    return 0


def _run_down(options: argparse.Namespace) -> int:
    from dit4c_p2p.node.agent import remove_everything

    count = len(asyncio.run(remove_everything(options.data_dir.absolute())))
    print(f"Removed {count} instance{'' if count == 1 else 's'} of {options.data_dir}.")
    return 0


def _run_login_link(options: argparse.Namespace) -> int:
    from dit4c_p2p.up import login_link

    print(asyncio.run(login_link(options.data_dir.absolute(), options.person)))
    return 0


def _run_key_add(options: argparse.Namespace) -> int:
    from dit4c_p2p.enrol import enrol, read_access

    url, token = read_access(options.portal, options.data_dir, os.environ)
    name, fingerprint = asyncio.run(
        enrol(url, token, options.kind, options.id, options.file, options.scheduler)
    )
    print(f"Published {fingerprint} for {name}.")
    return 0
