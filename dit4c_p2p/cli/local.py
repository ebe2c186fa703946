"""``dit4c up`` and ``dit4c down``: the whole system on one machine."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import add_data_dir_option
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.run.all_in_one_config import DEFAULT_TOOLS, AllInOneConfig

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands


def add_up_and_down_commands(commands: "Commands") -> None:
    """Add ``dit4c up`` and ``dit4c down``."""
    _add_up_command(commands)
    _add_down_command(commands)


def _add_up_command(commands: "Commands") -> None:
    up = commands.add_parser(
        "up",
        help="run the whole system on this machine",
        description="Runs portal, scheduler, router, image server, file server and one node agent, "
        "with SQLite and this machine's Docker engine. Builds the images it needs, then prints a "
        "one-time link to log in with. Ctrl-C stops it within 10 s; instances live on and are "
        "found again by the next 'dit4c up' with the same folder.",
    )
    add_data_dir_option(up)
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
        "--images-port", type=int, default=8082, metavar="N", help="the image server's port (8082)"
    )
    up.add_argument(
        "--files-port", type=int, default=8023, metavar="N", help="the file server's port (8023)"
    )
    up.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="written (mode 0600) once everything answers: JSON with portal, router, router_ssh, "
        "images, files, login_url and api_token (ready.json in the data folder)",
    )
    up.add_argument(
        "--tools",
        default=",".join(DEFAULT_TOOLS),
        metavar="NAMES",
        help="what users can start, with commas between the names; 'all' for all there are "
        "(default: %(default)s)",
    )
    up.add_argument(
        "--observe-port",
        type=int,
        metavar="N",
        help="serve /healthz, /readyz and /metrics on this port of loopback (default: nowhere)",
    )
    up.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines of the log for people, or for programs (default: %(default)s)",
    )
    up.add_argument("-v", "--verbose", action="store_true", help="show the log here as well")
    up.set_defaults(run=_run_up_command)


def _add_down_command(commands: "Commands") -> None:
    down = commands.add_parser(
        "down",
        help="remove every instance of a data folder",
        description="Lists all instances that belong to the data folder and asks; then removes "
        "their containers, networks and volumes with everybody's files in them, whether or not "
        "'dit4c up' runs. Keys, accounts and images stay. With --keep they are only stopped.",
    )
    add_data_dir_option(down)
    down.add_argument("--yes", action="store_true", help="do it without asking")
    down.add_argument(
        "--keep",
        action="store_true",
        help="stop the instances and keep their files: their users can start them again",
    )
    down.set_defaults(run=_run_down_command)


def _run_up_command(options: argparse.Namespace) -> int:
    import uvloop

    from dit4c_p2p.imagebuild import choose_tools
    from dit4c_p2p.observe.logs import log_to
    from dit4c_p2p.run.all_in_one import run_all_in_one
    from dit4c_p2p.run.process import locked_data_folder

    config = AllInOneConfig(
        data_folder=options.data_dir.absolute(),
        portal_port=options.portal_port,
        router_port=options.router_port,
        router_ssh_port=options.router_ssh_port,
        images_port=options.images_port,
        files_port=options.files_port,
        ready_file=options.ready_file,
        tools=choose_tools(options.tools),
        observe_port=options.observe_port,
    )
    with locked_data_folder(config.data_folder):
        log_to(
            config.data_folder / "dit4c.log",
            terminal=logging.INFO if options.verbose else logging.WARNING,
            form=options.log_format,
        )
        uvloop.run(run_all_in_one(config))
    return 0


def _run_down_command(options: argparse.Namespace) -> int:
    from dit4c_p2p.engine_address import engine_address
    from dit4c_p2p.node.agent import remove_everything_of_node
    from dit4c_p2p.node.owner.inventory import list_instances_on_machine, stop_all_pods_on_machine

    folder, engine = options.data_dir.absolute(), engine_address()
    found = asyncio.run(list_instances_on_machine(folder, engine))
    for one in found:
        print(f"  {one.instance}  {one.status or 'without an app'}")
    if found and not options.yes and not _confirmed_down(len(found), keep=options.keep):
        return 1
    if options.keep:
        done, word = asyncio.run(stop_all_pods_on_machine(folder, engine)), "Stopped"
    else:
        done, word = asyncio.run(remove_everything_of_node(folder, engine)), "Removed"
    print(f"{word} {_instances_text(len(done))} of {options.data_dir}.")
    return 0


def _confirmed_down(count: int, *, keep: bool) -> bool:
    """Ask whoever is at the terminal.

    :raises ConfigError: nobody is.
    """
    what = "Stop" if keep else "Remove"
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{_instances_text(count)} would be {'stopped' if keep else 'removed, with all files'}",
            hint="say --yes where nobody can be asked",
        )
    files = "their files are kept" if keep else "all files in them are lost"
    answer = input(f"{what} {_instances_text(count)}? {files[0].upper()}{files[1:]}. [y/N] ")
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was done.")
    return False


def _instances_text(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"
