"""Arguments shared by several commands."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from dit4c_p2p.run.all_in_one_config import default_data_folder

if TYPE_CHECKING:
    from dit4c_p2p.settings import PortalSettings, Settings

    # argparse gives the type of add_subparsers() no public name.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

S = TypeVar("S", bound="Settings")


def add_data_dir_option(parser: argparse.ArgumentParser) -> None:
    """``--data-dir DIR``, the folder of ``dit4c up``."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_folder(),
        metavar="DIR",
        help="where keys, databases and logs are kept (default: %(default)s)",
    )


def add_portal_config_option(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` of a portal on this machine, instead of a data folder."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the portal's file, on the machine of a portal that runs alone",
    )


def add_config_option(parser: argparse.ArgumentParser, kind: str) -> None:
    """``--config FILE`` of a component."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(f"/etc/dit4c/{kind}.toml"),
        metavar="FILE",
        help="its settings (default: %(default)s)",
    )


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """``-o FORM``, how a command shows what it has found."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="for people, or for programs (default: %(default)s)",
    )


def number_argument(least: int, most: int, *, also: str = "") -> Callable[[str], int]:
    """Return argparse's type for whole numbers from ``least`` to ``most``.

    :param also: the end of the error's text, with what else may be given.
    """

    def read_number(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text[:9]) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"give a number from {least} to {most}{also}")

    return read_number


def read_settings(kind: str, file: Path) -> "Settings":
    """The settings of a component, with the environment over the file.

    :raises ConfigError: they are not as they must be.
    """
    from dit4c_p2p.settings import KINDS, read

    return read(KINDS[kind], kind, file, os.environ)


def read_portal_settings(file: Path) -> "PortalSettings":
    """The portal's own.

    :raises ConfigError: they are not as they must be.
    """
    return cast("PortalSettings", read_settings("portal", file))
