"""``dit4c login-link``: create a one-time login link."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import (
    add_data_dir_option,
    add_portal_config_option,
    read_portal_settings,
)

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands


def add_login_link_command(commands: "Commands") -> None:
    """Add ``dit4c login-link``."""
    link = commands.add_parser(
        "login-link",
        help="make a one-time link that logs a person in",
        description="Prints a link that logs PERSON in once, within 24 hours.",
    )
    link.add_argument("person", metavar="PERSON", help="whom it logs in, such as admin")
    add_data_dir_option(link)
    add_portal_config_option(link)
    link.set_defaults(run=_run_login_link_command)


def _run_login_link_command(options: argparse.Namespace) -> int:
    if options.config is not None:
        from dit4c_p2p.admin import local_portal

        settings = read_portal_settings(options.config)
        print(asyncio.run(local_portal.local_login_link(settings, options.person)))
    else:
        from dit4c_p2p.run.all_in_one import new_login_link_of_folder

        print(asyncio.run(new_login_link_of_folder(options.data_dir.absolute(), options.person)))
    return 0
