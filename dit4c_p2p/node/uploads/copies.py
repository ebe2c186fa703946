"""Makes the copy of a running app's files that a checkpoint uploads.

The scanner copies while the app runs. The app is paused for what has changed since, and goes on
whatever happens to the copy: an agent that was killed meanwhile lets it go on at its next start.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from dit4c_p2p.messages.codec import InvalidMessage, decode
from dit4c_p2p.messages.node import Progress
from dit4c_p2p.messages.upload import (
    PAUSED_LINE,
    CopyDone,
    CopyLine,
    CopyProgress,
    PauseWanted,
    ScanFailed,
)
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.image_transfer import ImageTransfer
from dit4c_p2p.node.errors import Conflict, EngineError, NotSaved, TransientError
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.spec import Role
from dit4c_p2p.node.pods.status import ContainerState, memory_text

_log = logging.getLogger(__name__)

READY_LINE = "ready"
# An app that is paused for longer is as good as down: it goes on, and the checkpoint fails.
PAUSE_LIMIT_S = 60.0
_UNPAUSE_TRIES = 5
_AGAIN_S = 1.0


class AppPauser:
    """Pauses apps, and lets those go on that an earlier agent has left paused."""

    def __init__(self, engine: Engine, data_folder: str) -> None:
        self._engine = engine
        self._data_folder = data_folder
        self._paused: set[str] = set()

    @asynccontextmanager
    async def paused(self, app: ContainerState) -> AsyncIterator[None]:
        """The app does not run inside the block; one that had ended stays as it is."""
        began = time.monotonic()
        self._paused.add(app.id)
        try:
            try:
                await self._engine.pause_container(app.id)
            except Conflict:
                _log.info("container %s does not run: no need to pause it", app.id[:12])
            yield
        finally:
            try:
                await asyncio.shield(self._unpause(app.id))
            finally:
                self._paused.discard(app.id)
            _log.info(
                "container %s was paused for %.0f ms", app.id[:12], 1e3 * (time.monotonic() - began)
            )

    async def _unpause(self, id: str) -> None:
        for again in range(_UNPAUSE_TRIES):
            try:
                await self._engine.unpause_container(id)
            except TransientError as error:
                _log.error("container %s is still paused: %s", id[:12], error.one_line())
                if again == _UNPAUSE_TRIES - 1:
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def unpause_all(self) -> None:
        """Let every app of this agent go on that nobody keeps paused."""
        for one in await self._engine.containers(self._data_folder):
            is_app = one["Labels"].get(pod.LABEL_ROLE) == Role.APP
            if is_app and one["State"] == "paused" and one["Id"] not in self._paused:
                _log.warning("container %s was left paused: it goes on", one["Id"][:12])
                await self._engine.unpause_container(one["Id"])


class CopyMaker:
    """Follows scanners that make copies."""

    def __init__(self, engine: Engine, pauser: AppPauser) -> None:
        self._engine = engine
        self._transfer = ImageTransfer(engine)
        self._pauser = pauser

    async def make(
        self,
        scanner: str,
        lock: asyncio.Lock,
        look: Callable[[], Awaitable[ContainerState]],
        in_pause: Callable[[ContainerState], Awaitable[None]],
    ) -> AsyncGenerator[Progress, None]:
        """Have the scanner's copy complete, and the scanner ready.

        :param scanner: the id of a container that was just started.
        :param lock: the pod's; held while the app is paused.
        :param look: says how the app is.
        :param in_pause: done while the app is paused, beside the scanner's copying.
        :raises NotSaved: it can't be copied.
        :raises EngineError: asked again it may go well.
        """
        async with aclosing(self._lines(scanner)) as lines:
            async for line in lines:
                match line:
                    case CopyProgress(done=done, total=total):
                        yield _progress_for_copies(done, total)
                    case PauseWanted():
                        async with lock:
                            app = await look()
                            async with self._pauser.paused(app):
                                await self._copy_in_pause(scanner, lines, app, in_pause)
                    case ScanFailed(text=text):
                        raise NotSaved(text)
                    case str() if line == READY_LINE:
                        return
        said = await self._engine.log_tail(scanner, 20)
        raise EngineError(f"the copy was cut off: {said.strip()[-300:]}")

    async def _copy_in_pause(
        self,
        scanner: str,
        lines: AsyncGenerator[Any, None],
        app: ContainerState,
        in_pause: Callable[[ContainerState], Awaitable[None]],
    ) -> None:
        try:
            async with asyncio.timeout(PAUSE_LIMIT_S):
                await self._transfer.feed(scanner, _one_for_copies(f"{PAUSED_LINE}\n".encode()))
                await in_pause(app)
                async for line in lines:
                    match line:
                        case CopyDone(changed_bytes=changed):
                            _log.info("%d bytes were copied in the pause", changed)
                            return
                        case ScanFailed(text=text):
                            raise NotSaved(text)
        except TimeoutError:
            raise NotSaved(
                f"what the app had changed could not be copied within {PAUSE_LIMIT_S:g} s"
            ) from None
        raise EngineError("the scanner ended while the app was paused")

    async def _lines(self, scanner: str) -> AsyncGenerator[Any, None]:
        """Each line that the scanner says: a record, or the word that it is ready."""
        async with aclosing(self._engine.follow_output(scanner)) as said:
            async for line in said:
                if line.strip() == READY_LINE:
                    yield READY_LINE
                    continue
                kind: Any = CopyLine
                try:
                    yield decode(line, kind)
                except InvalidMessage:
                    _log.warning("a scanner said %r", line[:200])


async def _one_for_copies(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _progress_for_copies(done: int, total: int) -> Progress:
    """A sentence without a fraction: the upload, which follows, has one of its own."""
    return Progress(info=f"Copying its files: {memory_text(done)} of {memory_text(total)}")
