"""``dit4c images …``: the images of a node's engine."""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands
    from dit4c_p2p.imagebuild import CatalogueImage


def add_images_commands(commands: "Commands") -> None:
    """Add ``dit4c images``."""
    images = commands.add_parser("images", help="make or load the container images of a node")
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
    build.set_defaults(run=_run_images_build)
    load = actions.add_parser(
        "load",
        help="take images from a file",
        description="Puts the images of FILE, which 'docker save' or another tool has written "
        "(also compressed, or as an OCI archive), at this machine's Docker engine, and prints the "
        "[[tools]] for the portal's file. The same image has the same id on every node.",
    )
    load.add_argument("file", type=Path, metavar="FILE", help="an archive of images")
    load.set_defaults(run=_run_images_load)


def _run_images_build(options: argparse.Namespace) -> int:
    from dit4c_p2p.imagebuild import (
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
    _print_images_tools(images.catalogue)
    return 0


def _run_images_load(options: argparse.Namespace) -> int:
    from dit4c_p2p.imagebuild import TerminalProgress, load_images, tools_of_loaded_images

    progress = TerminalProgress(columns=shutil.get_terminal_size().columns)
    try:
        images = asyncio.run(load_images(options.file, progress))
    finally:
        progress.close()
    for image in images:
        if image.is_part:
            print(
                f"{image.tag} is a part of pods from now on: it sees what they see. If you don't "
                f"trust who made the file, remove it: docker rmi {image.tag}",
                file=sys.stderr,
            )
        elif not image.serves:
            print(f"{image.tag or image.id} declares no TCP port: no tool.", file=sys.stderr)
    _print_images_tools(tools_of_loaded_images(images))
    return 0


def _print_images_tools(tools: "Sequence[CatalogueImage]") -> None:
    for tool in tools:
        print("[[tools]]")
        for name in ("name", "title", "description", "icon", "image"):
            print(f"{name} = {json.dumps(getattr(tool, name), ensure_ascii=False)}")
        print()
    if tools:
        print(
            "Put these into the portal's file, or add them on its page Catalogue.", file=sys.stderr
        )
