"""``dit4c audit verify``: whether an audit log is what was written."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands


def add(commands: "Commands") -> None:
    """Add the commands of this file."""
    audit = commands.add_parser("audit", help="check an audit log")
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="check that no line was changed, removed or put in",
        description="Reads FILE (audit.jsonl in the portal's data folder) from its first line to "
        "its last, checks that each carries the hash of the one before, and prints the hash of the "
        "newest: keep that elsewhere, and compare it next time.",
    )
    verify.add_argument("file", metavar="FILE", type=Path)
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from dit4c_p2p.audit import verify

    verdict = verify(options.file)
    print(f"{options.file}: {verdict.lines} lines, unbroken; the newest is {verdict.newest}")
    return 0
