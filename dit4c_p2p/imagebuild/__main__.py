"""``python -m dit4c_p2p.imagebuild``: the engine and the images, for scripts and by hand."""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path

from dit4c_p2p.errors import DitError
from dit4c_p2p.imagebuild.docker_daemon import ensure_engine
from dit4c_p2p.imagebuild.ensure import default_cache_folder, ensure_images
from dit4c_p2p.imagebuild.progress import TerminalProgress
from dit4c_p2p.imagebuild.recipes import choose_tools


def main() -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dit4c_p2p.imagebuild", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    engine = commands.add_parser("engine", help="see that a Docker engine answers")
    engine.add_argument(
        "--pid-file",
        type=Path,
        metavar="FILE",
        help="where to write the process id of a daemon that had to be started",
    )
    build = commands.add_parser("build", help="build the images that are missing or have changed")
    build.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        default=default_cache_folder(),
        help="where downloads are kept (default: %(default)s)",
    )
    build.add_argument(
        "--tools",
        metavar="NAMES",
        default="all",
        help="which tools, with commas between their names (default: %(default)s)",
    )
    arguments = parser.parse_args()
    progress = TerminalProgress(columns=shutil.get_terminal_size().columns)
    try:
        if arguments.command == "engine":
            asyncio.run(_run_engine_command(progress, arguments.pid_file))
        else:
            tools = choose_tools(arguments.tools)
            asyncio.run(_run_build_command(progress, arguments.cache_dir, tools))
    except DitError as error:
        progress.close()
        print(f"error: {error.one_line()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.close()
        return 130
    progress.close()
    return 0


async def _run_engine_command(progress: TerminalProgress, pid_file: Path | None) -> None:
    engine = await ensure_engine(progress)
    if pid_file is not None and engine.started_pid is not None:
        pid_file.write_text(f"{engine.started_pid}\n")


async def _run_build_command(
    progress: TerminalProgress, cache_folder: Path, tools: tuple[str, ...]
) -> None:
    images = await ensure_images(progress, cache_folder, tools=tools)
    progress.close()
    for name in ("infra", "listener", "auth", "storage"):
        print(name, getattr(images, name))
    for offer in images.catalogue:
        print(offer.name, offer.image)


if __name__ == "__main__":
    sys.exit(main())
