"""``/healthz``, ``/readyz``, ``/metrics`` for a component's operator, on a port of their own.

| path       | answers                                                                       |
|------------|-------------------------------------------------------------------------------|
| /healthz   | 200 as long as the process does anything at all                               |
| /readyz    | 200 if every check is well, else 503; JSON with each                          |
| /metrics   | Prometheus' text format                                                       |

There is no login: choose an address that only operators reach. The answers hold no secrets, only
counts, names of peers and sentences.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiohttp import web

from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.observe.metrics import CONTENT_TYPE, Metrics, metrics_exposition

_log = logging.getLogger(__name__)

# Of one check, and of what has to be looked up for the figures.
_CHECK_S = 3.0
# However often somebody asks, the engine and the database are asked once in this time.
_KEPT_S = 1.0
_STOP_S = 1.0
_MAX_HEAD_BYTES = 8 * 1024
_WELL = ""

Address = tuple[str, int]
Check = Callable[[], Awaitable[str]]


class Observed(Protocol):
    """Interface of a component that can be observed."""

    @property
    def metrics(self) -> Metrics:
        """The component's metrics."""

    @property
    def checks(self) -> Mapping[str, Check]:
        """Checks by name. Each returns what is wrong, or an empty text, or raises DitError."""

    async def measure(self) -> None:
        """Update the metrics that are not counted as they happen; called before each reading."""


class HealthServer:
    """HTTP server of the three pages of one process.

    :param kinds: of the components that it is going to run; one that has not been added yet is
        starting, and not ready.
    :ivar port: where it listens, once started.
    """

    def __init__(self, address: Address, *kinds: str) -> None:
        self._address = address
        self._components: dict[str, Observed | None] = dict.fromkeys(kinds)
        self._runner = web.AppRunner(
            self._app(), access_log=None, handle_signals=False, shutdown_timeout=_STOP_S,
            max_line_size=_MAX_HEAD_BYTES, max_field_size=_MAX_HEAD_BYTES,
        )  # fmt: skip
        self._looking = asyncio.Lock()
        self._seen: tuple[float, dict[str, dict[str, str]]] = (float("-inf"), {})
        self.port = 0

    def add(self, kind: str, component: Observed) -> None:
        """Observe ``component`` as the one of this kind from now on."""
        self._components[kind] = component

    async def start(self) -> None:
        """Listen.

        :raises ConfigError: the address can't be listened on.
        """
        await self._runner.setup()
        host, port = self._address
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"health and metrics can't be served on {host}:{port}: {error.strerror or error}",
                hint="choose another address (observe.listen; 'dit4c up': --observe-port)",
            ) from None
        self.port = int(self._runner.addresses[0][1])
        _log.info("health and metrics are served on %s:%d", host, self.port)

    async def stop(self) -> None:
        """End."""
        await self._runner.cleanup()

    async def look(self) -> dict[str, dict[str, str]]:
        """Return each component's checks with what is wrong, or an empty text."""
        async with self._looking:
            at, seen = self._seen
            if time.monotonic() - at >= _KEPT_S:
                seen = {
                    kind: await _check_results(component)
                    for kind, component in self._components.items()
                }
                self._seen = (time.monotonic(), seen)
            return seen

    # ---- the pages

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1)
        app.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/readyz", self._readiness),
                web.get("/metrics", self._figures),
            ]
        )
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return _json_health_response({"alive": True, "components": list(self._components)}, 200)

    async def _readiness(self, request: web.Request) -> web.Response:
        seen = await self.look()
        ready = not any(text for checks in seen.values() for text in checks.values())
        components = {
            kind: {name: {"ok": not text, "text": text} for name, text in checks.items()}
            for kind, checks in seen.items()
        }
        return _json_health_response(
            {"ready": ready, "components": components}, 200 if ready else 503
        )

    async def _figures(self, request: web.Request) -> web.Response:
        there = [component for component in self._components.values() if component is not None]
        for component in there:
            try:
                async with asyncio.timeout(_CHECK_S):
                    await component.measure()
            except (TimeoutError, DitError) as error:
                kind = component.metrics.component
                _log.warning("some figures of the %s are old: %s", kind, error or "time is up")
        body = metrics_exposition([component.metrics for component in there])
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


@asynccontextmanager
async def serve_health(
    address: Address | None, *kinds: str
) -> AsyncIterator[Callable[[str, Observed], None]]:
    """Serve the pages inside the ``with`` block; yield :meth:`HealthServer.add`.

    :param address: where to listen; None serves nothing.
    :raises ConfigError: the address can't be listened on.
    """
    if address is None:
        yield lambda kind, component: None
        return
    server = HealthServer(address, *kinds)
    await server.start()
    try:
        yield server.add
    finally:
        await server.stop()


async def _check_results(component: Observed | None) -> dict[str, str]:
    if component is None:
        return {"started": "it is starting"}
    names, checks = list(component.checks), list(component.checks.values())
    results = await asyncio.gather(*(_check_result(check) for check in checks))
    return {"started": _WELL, **dict(zip(names, results, strict=True))}


async def _check_result(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            return await check()
    except TimeoutError:
        return f"no answer in {_CHECK_S:.0f} s"
    except DitError as error:
        return error.one_line()


def _json_health_response(data: Any, status: int) -> web.Response:
    return web.json_response(data, status=status, headers={"Cache-Control": "no-store"})
