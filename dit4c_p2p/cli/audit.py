"""``dit4c audit``: verify and rotate an audit log."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands


def add_audit_commands(commands: "Commands") -> None:
    """Add ``dit4c audit``."""
    audit = commands.add_parser("audit", help="check an audit log, or put it aside")
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="check that no line was changed, removed or put in",
        description="Reads FILE (audit.jsonl in the portal's data folder) from its first line to "
        "its last, checks that each carries the hash of the one before, and prints the hash of the "
        "newest. Keep that elsewhere, and give it with --expect next time: lines that are taken "
        "away from the end show by nothing else. Files that were put aside are read as one log "
        "with it, if they are named as well, in any order.",
    )
    verify.add_argument("files", metavar="FILE", type=Path, nargs="+")
    verify.add_argument(
        "--expect",
        metavar="HASH",
        type=_audit_hash,
        help="fail unless a line has this hash: one that was the newest once, and kept elsewhere",
    )
    verify.set_defaults(run=_run_audit_verify)
    rotate = actions.add_parser(
        "rotate",
        help="put the log aside and begin a new file",
        description="Puts FILE (audit.jsonl in the portal's data folder) aside under a name with "
        "today's date, and prints it. The portal goes on meanwhile, in a new FILE that carries the "
        "hash of the last line put aside.",
    )
    rotate.add_argument("file", metavar="FILE", type=Path)
    rotate.set_defaults(run=_run_audit_rotate)


def _run_audit_verify(options: argparse.Namespace) -> int:
    from dit4c_p2p.audit import verify

    verdict = verify(*options.files, expect=options.expect or "")
    names = ", ".join(map(str, options.files))
    print(f"{names}: {verdict.lines} lines, unbroken; the newest is {verdict.newest}")
    if verdict.first > 1:
        print(f"lines before {verdict.first} are in an older file, which ends in {verdict.follows}")
    if verdict.expected:
        more = verdict.first + verdict.lines - 1 - verdict.expected
        print(f"the hash expected is that of line {verdict.expected}; {more} follow")
    return 0


def _audit_hash(text: str) -> str:
    """:raises argparse.ArgumentTypeError: not a SHA-256 in hexadecimal."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(
            "not a hash: 64 characters 0-9 and a-f, as 'dit4c audit verify' prints it"
        )
    return text.lower()


def _run_audit_rotate(options: argparse.Namespace) -> int:
    from dit4c_p2p.audit import rotate_audit_log
    from dit4c_p2p.portal.audit import local_audit_user

    print(rotate_audit_log(options.file, who=local_audit_user()))
    return 0
