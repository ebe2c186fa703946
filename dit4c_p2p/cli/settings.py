"""``dit4c config …``: check and print the components' settings files."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dit4c_p2p.errors import ConfigError

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands

_KINDS = ("portal", "scheduler", "router", "node", "fileserver", "imageserver")


def add_config_commands(commands: "Commands") -> None:
    """Add ``dit4c config``."""
    config = commands.add_parser("config", help="check a component's file, or print an example")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        usage="%(prog)s [-h] [KIND] FILE",
        help="say what is wrong with a file",
        description="Reads a component's file as 'run' would, with the environment over it, and "
        "says everything that is wrong, a line each. The certificates that it names are looked at "
        "as well. Nothing is started or changed.",
    )
    check.add_argument(
        "words",
        nargs="+",
        metavar="[KIND] FILE",
        help=f"one of {', '.join(_KINDS)}, unless the file says it (kind = …); and the file",
    )
    check.set_defaults(run=_run_config_check)
    example = actions.add_parser(
        "example",
        help="print a file to begin with",
        description="Prints a commented file with every setting that a component has, its meaning "
        "and its default.",
    )
    example.add_argument("kind", choices=_KINDS, metavar="KIND", help=", ".join(_KINDS))
    example.set_defaults(run=_run_config_example)


def _run_config_check(options: argparse.Namespace) -> int:
    from dit4c_p2p.settings import KINDS, InvalidSettings, kind_of_settings_file, read
    from dit4c_p2p.settings.read import unknown_variables

    if len(options.words) > 2:
        raise ConfigError("one file at a time", hint="give it as: dit4c config check [KIND] FILE")
    file = Path(options.words[-1])
    kind = options.words[0] if len(options.words) == 2 else kind_of_settings_file(file)
    if kind not in KINDS:
        hint = f"give one of {', '.join(KINDS)}, or one file at a time"
        raise ConfigError(f"there is no component {kind!r}", hint=hint)
    for line in unknown_variables(list(KINDS.values()), os.environ):
        print(f"note: {line}", file=sys.stderr)
    try:
        settings = read(KINDS[kind], kind, file, os.environ)
        problems = [problem.one_line() for problem in settings.file_problems()]
    except InvalidSettings as error:
        problems = list(error.problems)
    for problem in problems:
        print(f"{file}: {problem}", file=sys.stderr)
    if problems:
        return 1
    print(f"{file}: a {kind}'s settings, and nothing is wrong with them")
    return 0


def _run_config_example(options: argparse.Namespace) -> int:
    from dit4c_p2p.settings import KINDS
    from dit4c_p2p.settings.example import example

    print(example(KINDS[options.kind], options.kind), end="")
    return 0
