"""Process set-up shared by all commands that run components."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from dit4c_p2p.atomic_file import full_disk_hint, is_full_disk_error
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.listener import address_not_bound_error

_STOP_S = 8.0


class Component(Protocol):
    """Interface of every component."""

    async def start(self) -> None:
        """Start serving; return once the component serves."""

    async def stop(self) -> None:
        """Stop within seconds."""

    async def wait(self) -> None:
        """Wait until cancelled; raise if the component can't go on."""


async def run_until_signal(work: Coroutine[Any, Any, None], goodbye: str) -> None:
    """Run ``work`` until it ends, or SIGINT or SIGTERM ends it; then print ``goodbye``."""
    raise_file_limit()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    running = asyncio.create_task(work, name="the process's work")
    asked = asyncio.create_task(stopping.wait(), name="signal")
    await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not running.done():
        print(goodbye, file=sys.stderr)
        running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@asynccontextmanager
async def running_component(component: Component) -> AsyncIterator[None]:
    """Start the component for the ``with`` block, and stop it afterwards."""
    try:
        await component.start()
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await component.stop()


@contextmanager
def locked_data_folder(
    folder: Path,
    *,
    program: str = "dit4c up",
    another: str = "choose another one with --data-dir",
) -> Iterator[None]:
    """Lock the data folder for the ``with`` block; create it if it is missing.

    :param program: the program that uses the folder, for messages.
    :param another: the hint if the folder can't be used.
    :raises ConfigError: the folder can't be written, or another process uses it.
    """
    lock = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the data folder {folder} can't be written: {error.strerror}",
            hint=full_disk_hint(error) if is_full_disk_error(error) else another,
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another '{program}' is using {folder}", hint=f"stop it first, or {another}"
            ) from None
        yield
    finally:
        os.close(descriptor)


def check_port_is_free(host: str, port: int, *, another: str, setting: str = "") -> None:
    """Say that an address can't be listened on before anything else is done for it.

    :param another: what to do where the port is not to be had.
    :param setting: named first, if given.
    :raises ConfigError: it is taken, not ours to take, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            refused = address_not_bound_error(host, port, another, error)
            where = f"{setting}: " if setting else ""
            raise ConfigError(f"{where}{refused}", hint=refused.hint) from None


def raise_file_limit() -> None:
    """Raise the limit of open files to this user's maximum: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
