"""``dit4c node status|pause|resume|drain|stop``: what the owner of a machine can do there."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dit4c_p2p.cli.arguments import add_config_option, number_argument, read_settings
from dit4c_p2p.errors import ConfigError

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands
    from dit4c_p2p.node.owner.inventory import FoundInstance
    from dit4c_p2p.settings.node import NodeSettings

_LOOK_EVERY_S = 2.0
_MAX_MINUTES = 7 * 24 * 60


def add_node_owner_actions(actions: "Commands") -> None:
    """Add the owner's actions to ``dit4c node``."""
    _add(
        actions,
        "status",
        "say what runs here",
        "Says whether this machine takes new instances, and lists those that are here.",
        _run_status,
    )
    _add(
        actions,
        "pause",
        "take no new instances",
        "Has this machine start nothing any more; what runs goes on. It holds until 'resume', also "
        "over a restart.",
        _run_pause,
    )
    _add(
        actions,
        "resume",
        "take instances again",
        "Has this machine take instances again after 'pause', 'drain' or 'stop'.",
        _run_resume,
    )
    drain = _add(
        actions,
        "drain",
        "pause, and wait until nothing runs",
        "Pauses this machine and waits until its people have stopped what runs here. With "
        "--minutes what is left by then is stopped; files are kept. Ctrl-C leaves it paused.",
        _run_drain,
    )
    drain.add_argument(
        "--minutes",
        type=number_argument(0, _MAX_MINUTES),
        metavar="N",
        help="stop what still runs after that",
    )
    stop = _add(
        actions,
        "stop",
        "pause, and stop what runs",
        "Pauses this machine and stops all instances. Their files are kept, and their people can "
        "start them again after 'resume'.",
        _run_stop,
    )
    stop.add_argument("-y", "--yes", action="store_true", help="don't ask")


def _add(
    actions: "Commands", name: str, what: str, description: str, run: object
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what, description=description)
    add_config_option(parser, "node")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="of a 'dit4c up', in the place of --config"
    )
    parser.set_defaults(run=run)
    return parser


def _where(options: argparse.Namespace) -> tuple[Path, str]:
    """The data folder and the engine's address.

    :raises ConfigError: there is none.
    """
    if options.data_dir is None:
        settings = cast("NodeSettings", read_settings("node", options.config))
        return settings.data_folder, settings.engine
    from dit4c_p2p.engine_address import engine_address

    folder: Path = options.data_dir.absolute()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", hint="say where with --data-dir")
    return folder, engine_address()


def _found(options: argparse.Namespace) -> "list[FoundInstance]":
    from dit4c_p2p.node.owner.inventory import list_instances_on_machine

    return asyncio.run(list_instances_on_machine(*_where(options)))


def _running(found: "list[FoundInstance]") -> "list[FoundInstance]":
    return [one for one in found if one.status.startswith("Up")]


def _set_paused(options: argparse.Namespace, paused: bool) -> None:
    from dit4c_p2p.node.owner.pause import set_paused

    set_paused(_where(options)[0] / "node", paused)


def _run_status(options: argparse.Namespace) -> int:
    from dit4c_p2p.node.owner.pause import is_paused

    found = _found(options)
    paused = is_paused(_where(options)[0] / "node")
    print("Paused: nothing starts here." if paused else "It takes instances.")
    for one in found:
        print(f"  {one.instance}  {one.status or 'without an app'}")
    print(f"{len(found)} here, {len(_running(found))} of them running.")
    return 0


def _run_pause(options: argparse.Namespace) -> int:
    _set_paused(options, True)
    print("Paused: what runs goes on, and nothing starts until 'dit4c node resume'.")
    return 0


def _run_resume(options: argparse.Namespace) -> int:
    _set_paused(options, False)
    print("It takes instances again.")
    return 0


def _run_drain(options: argparse.Namespace) -> int:
    _set_paused(options, True)
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    said: set[str] = set()
    while running := _running(_found(options)):
        if end is not None and time.monotonic() >= end:
            return _stop_all(options)
        names = {one.instance for one in running}
        if names != said:
            print(f"Still running: {', '.join(sorted(names))}", file=sys.stderr, flush=True)
            said = names
        time.sleep(_LOOK_EVERY_S)
    print("Nothing runs here, and nothing starts until 'dit4c node resume'.")
    return 0


def _run_stop(options: argparse.Namespace) -> int:
    running = _running(_found(options))
    if running and not options.yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"{len(running)} running would be stopped",
                hint="say --yes where nobody can be asked",
            )
        answer = input(f"Stop {len(running)} running? Their files are kept. [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was done.")
            return 1
    _set_paused(options, True)
    return _stop_all(options)


def _stop_all(options: argparse.Namespace) -> int:
    from dit4c_p2p.node.owner.inventory import stop_all_pods_on_machine

    asyncio.run(stop_all_pods_on_machine(*_where(options)))
    print("Stopped; files are kept. Nothing starts until 'dit4c node resume'.")
    return 0
