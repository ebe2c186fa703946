"""``dit4c images build``: what a node needs at its engine."""

import argparse
import asyncio
import json
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands


def add(commands: "Commands") -> None:
    """Add the commands of this file."""
    images = commands.add_parser("images", help="make the container images of a node")
    actions = images.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="build those that are missing or have changed",
        description="Builds the images of an instance's helpers and of the tools at this machine's "
        "Docker engine, as far as they are missing or have changed, and prints the [[tools]] for "
        "the portal's file.",
    )
    build.add_argument(
        "--tools",
        default="all",
        metavar="NAMES",
        help="which tools, with commas between the names (default: %(default)s)",
    )
    build.set_defaults(run=_run_build)


def _run_build(options: argparse.Namespace) -> int:
    from dit4c_p2p.images import (
        TerminalProgress,
        choose_tools,
        default_cache_folder,
        ensure_images,
    )

    tools = choose_tools(options.tools)
    progress = TerminalProgress(columns=shutil.get_terminal_size().columns)
    try:
        images = asyncio.run(ensure_images(progress, default_cache_folder(), tools=tools))
    finally:
        progress.close()
    for tool in images.catalogue:
        print("[[tools]]")
        for name in ("name", "title", "description", "icon", "image"):
            print(f"{name} = {json.dumps(getattr(tool, name), ensure_ascii=False)}")
        print()
    print("Put these into the portal's file.", file=sys.stderr)
    return 0
