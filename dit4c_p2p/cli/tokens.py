"""``dit4c token …``: API tokens for programs."""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import (
    add_data_dir_option,
    add_portal_config_option,
    read_portal_settings,
)
from dit4c_p2p.errors import ConfigError

if TYPE_CHECKING:
    from dit4c_p2p.admin.tokens import TokenAdmin
    from dit4c_p2p.cli.arguments import Commands

_WHERE = (
    "On the portal's own machine the data folder (--data-dir) or the portal's file (--config) is "
    "enough; elsewhere --portal with an admin's token in DIT4C_TOKEN."
)


def add_token_commands(commands: "Commands") -> None:
    """Add ``dit4c token``."""
    token = commands.add_parser("token", help="manage people's tokens for the HTTP API")
    actions = token.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make a token",
        description="Prints a token with which a program acts as PERSON, this one time. "
        f"Without --admin it may never do what only admins may. {_WHERE}",
    )
    _add_token_portal_options(create)
    create.add_argument("--label", required=True, metavar="TEXT", help="what it is for")
    create.add_argument(
        "--days", type=int, default=90, metavar="N", help="it ends after that (90; 366 at most)"
    )
    create.add_argument(
        "--scope",
        action="append",
        choices=("instances:read", "instances:write", "admin"),
        help="what it may do; can be given several times (the first two)",
    )
    create.add_argument(
        "--admin", action="store_true", help="with an admin's rights; PERSON has to be one"
    )
    create.set_defaults(run=lambda options: _run_token_command(options, _create_token))

    show = actions.add_parser(
        "list",
        help="list a person's tokens",
        description=f"Prints id, scopes, end, last use and label of each. {_WHERE}",
    )
    _add_token_portal_options(show)
    show.set_defaults(run=lambda options: _run_token_command(options, _list_tokens))

    revoke = actions.add_parser(
        "revoke", help="end a token", description=f"Ends a token at once. {_WHERE}"
    )
    _add_token_portal_options(revoke)
    revoke.add_argument("token", metavar="TOKEN", help="its id or its label, as 'list' shows them")
    revoke.set_defaults(run=lambda options: _run_token_command(options, _revoke_token))


def _add_token_portal_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON", help="whose, such as admin")
    parser.add_argument("--portal", metavar="URL", help="a portal elsewhere, by its API")
    add_portal_config_option(parser)
    add_data_dir_option(parser)


def _run_token_command(
    options: argparse.Namespace,
    action: Callable[[argparse.Namespace, "TokenAdmin"], Awaitable[None]],
) -> int:
    async def run() -> None:
        async with _token_admin(options) as desk:
            await action(options, desk)

    asyncio.run(run())
    return 0


def _token_admin(options: argparse.Namespace) -> AbstractAsyncContextManager["TokenAdmin"]:
    from dit4c_p2p.admin.tokens import (
        api_token_admin,
        audit_log_of_folder,
        local_token_admin,
        portal_database_of_folder,
    )

    if options.portal is not None:
        token = os.environ.get("DIT4C_TOKEN")
        if not token:
            raise ConfigError(
                "there is no token to ask the portal with", hint="put an admin's into DIT4C_TOKEN"
            )
        return api_token_admin(options.portal.rstrip("/"), token)
    if options.config is not None:
        config = read_portal_settings(options.config).config()
        return local_token_admin(config.database_spec, config.audit_path, time.time())
    folder = options.data_dir.absolute()
    return local_token_admin(
        portal_database_of_folder(folder), audit_log_of_folder(folder), time.time()
    )


async def _create_token(options: argparse.Namespace, desk: "TokenAdmin") -> None:
    scopes = frozenset(options.scope or ["instances:read", "instances:write"])
    if options.admin:
        scopes |= {"admin"}
    print(await desk.create(options.person, options.label, options.days, scopes))


async def _list_tokens(options: argparse.Namespace, desk: "TokenAdmin") -> None:
    for token in await desk.list(options.person):
        ends = f"ends {token.expires}" if token.expires else "without an end"
        used = f"last used {token.last_used}" if token.last_used else "not used yet"
        print(f"{token.id}  {','.join(token.scopes)}  {ends}  {used}  {token.label}")


async def _revoke_token(options: argparse.Namespace, desk: "TokenAdmin") -> None:
    await desk.revoke(options.person, options.token)
    print(f"Revoked {options.token} of {options.person}.")
