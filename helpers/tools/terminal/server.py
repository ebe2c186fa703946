"""Shells in the browser. Who may come is not decided here: the pod's auth helper has done that.

``/`` shows shell 1, ``/2`` to ``/9`` further ones. The page's WebSocket carries bytes as they are:
what is typed one way, what is printed the other. Text frames are JSON. From the server:
``{"begin": true}``: clear the screen, the next frame says what it showed; ``{"end": true}``.
From the page: ``{"size": [rows, columns]}`` and ``{"shown": bytes}``.
"""

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

from shells import Shell, Shells, Watcher
from tornado.iostream import StreamClosedError
from tornado.web import Application, RedirectHandler, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

PORT = 7681
NUMBERS = "123456789"
STATIC = Path(__file__).parent / "static"

_HEADERS = {
    # The terminal makes style sheets while it runs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# A page that is gone without saying so is noticed after this.
_PING_S = 20.0
# More than a person types or pastes at once.
_FRAME_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class Page(RequestHandler):
    """The page of one shell."""

    def set_default_headers(self) -> None:
        """Also on errors."""
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def get(self, number: str) -> None:
        """The same for all; its address says which shell it shows."""
        self.set_header("Cache-Control", "no-store")
        name = os.environ.get("DIT4C_INSTANCE_NAME")
        first = name or "Terminal 1"
        further = f"{name} – shell {number}" if name else f"Terminal {number}"
        self.render(
            str(STATIC / "index.html"),
            number=number,
            title=first if number == NUMBERS[0] else further,
            portal=os.environ.get("DIT4C_PORTAL_URL", ""),
        )


class Another(RequestHandler):
    """Leads to a shell that does not run yet."""

    def initialize(self, shells: Shells) -> None:
        """Given by :func:`application`."""
        self._shells = shells

    def get(self) -> None:
        """The last one if all run."""
        self.set_header("Cache-Control", "no-store")
        self.redirect(f"/{self._shells.free(NUMBERS) or NUMBERS[-1]}")


class Files(StaticFileHandler):
    """Style sheets and scripts."""

    def set_extra_headers(self, path: str) -> None:
        """Asked for again each time; mostly answered with "not modified"."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")

    def get_content_type(self) -> str:
        """Not every system's list of types has modules."""
        if self.path.endswith(".mjs"):
            return "text/javascript"
        return super().get_content_type()


class Socket(WebSocketHandler):
    """A page's connection to its shell. Tornado lets in pages of our own origin alone."""

    _shell: Shell | None = None
    _watcher: Watcher | None = None

    def initialize(self, shells: Shells) -> None:
        """Given by :func:`application`."""
        self._shells = shells

    async def open(self, number: str) -> None:
        """Shows the shell, started if need be."""
        self.set_nodelay(True)
        self._shell = await self._shells.get(number)
        if self.ws_connection is not None:
            self._watcher = self._shell.attach(self)

    async def on_message(self, message: str | bytes) -> None:
        """The next is not read before this is done."""
        if self._shell is None or self._watcher is None:
            return
        if isinstance(message, bytes):
            await self._shell.type(message)
            return
        try:
            match json.loads(message):
                case {"size": [int(rows), int(columns)]}:
                    self._shell.resize(self._watcher, rows, columns)
                case {"shown": int(count)}:
                    self._shell.shown(self._watcher, count)
                case _:
                    raise ValueError("unknown message")
        except ValueError as error:
            self.close(1008, str(error)[:100])

    def on_close(self) -> None:
        """The shell lives on."""
        if self._shell is not None and self._watcher is not None:
            self._shell.detach(self._watcher)

    def begin(self, replay: bytes) -> None:
        """See :class:`shells.View`."""
        self._send(json.dumps({"begin": True}))
        self._send(replay)

    def show(self, output: bytes) -> None:
        """See :class:`shells.View`."""
        self._send(output)

    def end(self) -> None:
        """See :class:`shells.View`."""
        self._send(json.dumps({"end": True}))
        self.close(1000, "the shell has ended")

    def _send(self, message: str | bytes) -> None:
        try:
            sent = self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            return
        sent.add_done_callback(_look)


def _look(sent: "asyncio.Future[None]") -> None:
    """A page that went away meanwhile is told of by ``on_close``."""
    error = None if sent.cancelled() else sent.exception()
    if error is not None and not isinstance(error, WebSocketClosedError | StreamClosedError):
        log.error("sending failed", exc_info=error)


def application(shells: Shells) -> Application:
    """What is served."""
    settings: dict[str, Any] = {
        "static_path": str(STATIC),
        "static_handler_class": Files,
        "websocket_ping_interval": _PING_S,
        "websocket_max_message_size": _FRAME_BYTES,
    }
    number = f"[{NUMBERS[0]}-{NUMBERS[-1]}]"
    return Application(
        [
            (r"/", RedirectHandler, {"url": "/1", "permanent": False}),
            (r"/another", Another, {"shells": shells}),
            (rf"/({number})", Page),
            (rf"/({number})/socket", Socket, {"shells": shells}),
        ],
        **settings,
    )


async def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    shells = Shells()
    server = application(shells).listen(PORT, "0.0.0.0")
    log.info("Terminal on port %d", PORT)
    await stopping.wait()
    server.stop()
    await shells.stop()


if __name__ == "__main__":
    asyncio.run(main())
