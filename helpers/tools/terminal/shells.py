"""Shells that outlive the pages showing them. Nothing here knows HTTP."""

import asyncio
import contextlib
import fcntl
import logging
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

# A page that comes back is shown this much of what was printed last: some screens full.
REPLAY_BYTES = 256 * 1024
# What a page may have been sent without having shown it. More, and it is left out until it has.
WINDOW_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
_LARGEST_SIDE = 1000
_HANGUP_S = 2.0


class View(Protocol):
    """A page that shows a shell. None of these waits for the page."""

    def begin(self, replay: bytes) -> None:
        """Forget what is shown and show ``replay``."""

    def show(self, output: bytes) -> None:
        """Show what comes next."""

    def end(self) -> None:
        """The shell has ended."""


class Watcher:
    """A view and how far it is behind, in bytes; ``size`` is its rows and columns."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.size: tuple[int, int] | None = None
        self.unshown = 0
        self.left_out = False


class Shell:
    """One login shell on a terminal of its own."""

    def __init__(self, number: str, on_end: Callable[["Shell"], None]) -> None:
        self.number = number
        self._on_end = on_end
        self._watchers: list[Watcher] = []
        self._printed = bytearray()
        self._terminal = -1
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._typing = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Start the shell; it prints from now on whether or not anybody looks."""
        self._terminal, inner = pty.openpty()
        try:
            os.set_blocking(self._terminal, False)
            # A session of its own with this terminal, as a login gives.
            self._process = await asyncio.create_subprocess_exec(
                *("setsid", "--ctty", "bash", "--login"),
                stdin=inner,
                stdout=inner,
                stderr=inner,
                env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            )
        finally:
            os.close(inner)
        log.info("shell %s started", self.number)
        self._task = asyncio.create_task(self._run(), name=f"shell {self.number}")

    async def stop(self) -> None:
        """Hang up and wait for the end. Pages are not told: there is no next shell to offer."""
        self._watchers.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def attach(self, view: View) -> Watcher:
        """Show everything to this view as well, from now on."""
        watcher = Watcher(view)
        self._watchers.append(watcher)
        self._show_again(watcher)
        return watcher

    def detach(self, watcher: Watcher) -> None:
        """That view has gone."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._fit()

    def resize(self, watcher: Watcher, rows: int, columns: int) -> None:
        """A view has this size; the terminal is as large as all its views can show."""
        first = watcher.size is None
        watcher.size = (
            min(max(rows, 1), _LARGEST_SIDE),
            min(max(columns, 1), _LARGEST_SIDE),
        )
        self._fit()
        if first:
            # What fills the screen, such as an editor, draws itself anew for it.
            with contextlib.suppress(OSError):
                os.killpg(os.tcgetpgrp(self._terminal), signal.SIGWINCH)

    def shown(self, watcher: Watcher, count: int) -> None:
        """The view has shown so many bytes more."""
        watcher.unshown = max(0, watcher.unshown - count)
        if watcher.left_out and watcher.unshown < WINDOW_BYTES // 2:
            self._show_again(watcher)

    async def type(self, data: bytes) -> None:
        """Give the shell's programs what was typed; waits until they have room for it."""
        async with self._typing:
            while data and self._terminal >= 0:
                try:
                    data = data[os.write(self._terminal, data) :]
                except BlockingIOError:
                    loop = asyncio.get_running_loop()
                    await self._ready(loop.add_writer, loop.remove_writer)
                except OSError:
                    return

    async def _run(self) -> None:
        assert self._process is not None
        exit_ = asyncio.create_task(self._process.wait(), name=f"exit of shell {self.number}")
        exit_.add_done_callback(lambda _: self._wake())
        try:
            while output := await self._read():
                self._printed += output
                if len(self._printed) > 2 * REPLAY_BYTES:
                    del self._printed[:-REPLAY_BYTES]
                for watcher in self._watchers:
                    self._show(watcher, output)
        finally:
            await self._hang_up()

    async def _read(self) -> bytes:
        """What was printed, or nothing once the shell has exited and all of it is read.

        What it left in the background may have the terminal still.
        """
        assert self._process is not None
        while True:
            try:
                return os.read(self._terminal, _READ_BYTES)
            except BlockingIOError:
                if self._process.returncode is not None:
                    return b""
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError:
                return b""

    async def _ready(
        self, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], object]
    ) -> None:
        """Wait for room or output, or until something has ended."""
        terminal = self._terminal
        ready = asyncio.get_running_loop().create_future()
        self._waiting.add(ready)
        add(terminal, self._wake)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            # Once hung up, this number may be something else's.
            if self._terminal == terminal:
                remove(terminal)

    def _wake(self) -> None:
        for ready in self._waiting:
            if not ready.done():
                ready.set_result(None)

    async def _hang_up(self) -> None:
        # The session's programs get SIGHUP from the kernel.
        terminal, self._terminal = self._terminal, -1
        asyncio.get_running_loop().remove_writer(terminal)
        os.close(terminal)
        self._wake()
        assert self._process is not None
        try:
            async with asyncio.timeout(_HANGUP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        log.info("shell %s ended", self.number)
        self._on_end(self)
        for watcher in self._watchers:
            watcher.view.end()
        self._watchers.clear()

    def _show(self, watcher: Watcher, output: bytes) -> None:
        if watcher.left_out:
            return
        if watcher.unshown > WINDOW_BYTES:
            watcher.left_out = True
            return
        watcher.unshown += len(output)
        watcher.view.show(output)

    def _show_again(self, watcher: Watcher) -> None:
        replay = bytes(self._printed[-REPLAY_BYTES:])
        if len(self._printed) > REPLAY_BYTES:
            # Not from the middle of a character or a command to the terminal.
            replay = replay[replay.find(b"\n") + 1 :]
        watcher.left_out = False
        watcher.unshown += len(replay)
        watcher.view.begin(replay)

    def _fit(self) -> None:
        sizes = [watcher.size for watcher in self._watchers if watcher.size is not None]
        if not sizes or self._terminal < 0:
            return
        rows, columns = min(size[0] for size in sizes), min(size[1] for size in sizes)
        packed = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, packed)


class Shells:
    """The shells there are, by number."""

    def __init__(self) -> None:
        self._shells: dict[str, Shell] = {}

    async def get(self, number: str) -> Shell:
        """The shell of this number, started if it does not run."""
        shell = self._shells.get(number)
        if shell is None:
            shell = self._shells[number] = Shell(number, self._forget)
            try:
                await shell.start()
            except BaseException:
                self._forget(shell)
                raise
        return shell

    def free(self, numbers: str) -> str | None:
        """The first of ``numbers`` that does not run."""
        return next((number for number in numbers if number not in self._shells), None)

    async def stop(self) -> None:
        """Hang up on all."""
        await asyncio.gather(*(shell.stop() for shell in list(self._shells.values())))

    def _forget(self, shell: Shell) -> None:
        self._shells.pop(shell.number, None)
