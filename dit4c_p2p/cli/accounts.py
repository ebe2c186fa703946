"""``dit4c person …`` and ``dit4c group …``: accounts, roles, limits and groups, for admins."""

import argparse
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import add_data_dir_option, add_output_option, number_argument

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands

_WHO = (
    "Needs an admin's API token: that of the running 'dit4c up' (--data-dir), or for --portal the "
    "one in DIT4C_TOKEN."
)
_MAX_LIMIT = 10_000


def add_account_commands(commands: "Commands") -> None:
    """Add ``dit4c person`` and ``dit4c group``."""
    person = commands.add_parser("person", help="manage accounts, roles and limits")
    _add_person_actions(person.add_subparsers(title="actions", metavar="ACTION", required=True))
    group = commands.add_parser("group", help="manage groups, their members and limits")
    _add_group_actions(group.add_subparsers(title="actions", metavar="ACTION", required=True))


def _add_person_actions(actions: "Commands") -> None:
    show_all = _add(actions, "list", "list accounts", "Lists the accounts, the newest first.")
    show_all.add_argument("--find", default="", metavar="TEXT", help="only those like this")
    _set_action(show_all, "list_people")
    show = _add(actions, "show", "show an account", "Shows an account and the limits that count.")
    _add_person_argument(show)
    _set_action(show, "show_person")
    invite = _add(
        actions,
        "invite",
        "make an account",
        "Makes an account, and prints the link that logs its person in once.",
    )
    invite.add_argument("name", metavar="NAME", help="the person's name")
    invite.add_argument("--id", default="", metavar="ID", help="made from the name if left out")
    invite.add_argument("--admin", action="store_true", help="may manage people, tools and keys")
    _set_action(invite, "invite_person")
    change = _add(
        actions,
        "set",
        "change an account",
        "Changes what is given of an account; the rest stays. What you take from yourself only "
        "another admin can give back, so that needs --own.",
    )
    _add_person_argument(change)
    change.add_argument("--name", metavar="NAME", help="another name")
    change.add_argument("--role", choices=("admin", "user"), help="another role")
    change.add_argument("--state", choices=("enabled", "disabled"), help="let in, or shut out")
    change.add_argument("--own", action="store_true", help="yes, of my own account")
    _add_limit_options(change, "the person's groups or the settings say")
    _set_action(change, "change_person")


def _add_group_actions(actions: "Commands") -> None:
    show_all = _add(actions, "list", "list groups", "Lists the groups, the newest first.")
    show_all.add_argument("--find", default="", metavar="TEXT", help="only those like this")
    _set_action(show_all, "list_groups")
    show = _add(actions, "show", "list a group's members", "Lists the members of a group.")
    _add_group_argument(show)
    _set_action(show, "show_group")
    create = _add(actions, "create", "make a group", "Makes a group, and prints its id.")
    create.add_argument("title", metavar="TITLE", help="what people read")
    create.add_argument("--id", default="", metavar="ID", help="made from the title if left out")
    _set_action(create, "create_group")
    change = _add(
        actions, "set", "change a group", "Changes what is given of a group; the rest stays."
    )
    _add_group_argument(change)
    change.add_argument("--title", metavar="TITLE", help="another title")
    change.add_argument(
        "--state", choices=("open", "closed"), help="a closed one shares nothing, and keeps all"
    )
    _add_limit_options(change, "the settings say; for each member")
    _set_action(change, "change_group")
    add = _add(
        actions,
        "add",
        "put a person into a group",
        "Puts a person into a group, or changes what they may do there.",
    )
    _add_group_argument(add)
    _add_person_argument(add)
    add.add_argument(
        "--may",
        choices=("read", "write", "manage"),
        default="read",
        help="read its files, write them, or manage its members as well (default: %(default)s)",
    )
    _set_action(add, "put_member")
    remove = _add(
        actions,
        "remove",
        "take a person out of a group",
        "Takes a person out of a group; the group's files stay.",
    )
    _add_group_argument(remove)
    _add_person_argument(remove)
    _set_action(remove, "remove_member")


def _add(actions: "Commands", name: str, what: str, description: str) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=what, description=f"{description} {_WHO}")


def _add_person_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON", help="the id of a person")


def _add_group_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the id of a group")


def _add_limit_options(parser: argparse.ArgumentParser, else_counts: str) -> None:
    parser.add_argument(
        "--instances",
        type=_limit_number,
        metavar="N",
        help=f"instances in all; none: what {else_counts}",
    )
    parser.add_argument(
        "--at-once", type=_limit_number, metavar="N", help="instances at once on machines, or none"
    )


def _limit_number(text: str) -> int | str:
    return text if text == "none" else number_argument(0, _MAX_LIMIT, also=", or none")(text)


def _set_action(parser: argparse.ArgumentParser, action: str) -> None:
    """Have a command carry out a function of ``admin.accounts``."""
    parser.add_argument("--portal", metavar="URL", help="a portal elsewhere")
    add_data_dir_option(parser)
    add_output_option(parser)
    parser.set_defaults(run=lambda options: _run(options, action))


def _run(options: argparse.Namespace, action: str) -> int:
    import asyncio
    import os

    from dit4c_p2p.admin import accounts

    async def run() -> None:
        async with accounts.admins_portal(
            options.portal, options.data_dir, os.environ, options.output
        ) as portal:
            await getattr(accounts, action)(options, portal)

    asyncio.run(run())
    return 0
