"""The image server as one thing that starts and stops."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from aiohttp import hdrs, web

from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.imageserver import http_api, http_chunks, http_errors
from dit4c_p2p.imageserver.access import Access
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.imageserver.http_errors import Refused
from dit4c_p2p.imageserver.http_request import Call
from dit4c_p2p.imageserver.http_sendfile import sending_threads
from dit4c_p2p.imageserver.metrics import ImageServerMetrics
from dit4c_p2p.imageserver.routing import VERBS, InvalidRepository, RegistryEndpoint, read_path
from dit4c_p2p.imageserver.server import http_server
from dit4c_p2p.imageserver.store.errors import StoreError
from dit4c_p2p.imageserver.store.store import Store
from dit4c_p2p.observe.metrics import set_all_gauge_values
from dit4c_p2p.observe.server import Check

_log = logging.getLogger(__name__)

_ROUTE = web.RequestKey("route", str)
_METHODS = frozenset(hdrs.METH_ALL)


class ImageServer:
    """An image server; :meth:`start`, then :meth:`wait`, then :meth:`stop`.

    :param clock: seconds since 1970.
    :ivar store: what it keeps, once started.
    """

    store: Store

    def __init__(
        self, config: ImageServerConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self._clock = clock
        self.metrics = ImageServerMetrics()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._handlers = {**http_api.registry_api_handlers(), **http_chunks.chunk_api_handlers()}
        app = web.Application(
            middlewares=[self._count, http_errors.translate_errors], client_max_size=1
        )
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_response_prepare.append(_without_server)
        self._server = http_server(app, config)

    @property
    def ports(self) -> list[int]:
        """The port of each plain address."""
        return list(self._server.ports)

    @property
    def secure_ports(self) -> list[int]:
        """The port of each address with TLS."""
        return list(self._server.secure_ports)

    async def start(self) -> None:
        """Open the store and listen.

        :raises ConfigError: an address can't be listened on, the portal's URL is not acceptable,
            or what is in the data folder is something else.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Until :meth:`stop`; raises what a part of it has died of."""
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """End every connection and task."""
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """What has to be well."""
        return {"portal": self._access.check, "disk": self._check_disk, "index": self._check_index}

    async def measure(self) -> None:
        """Count what is here now."""
        metrics = self.metrics
        metrics.connections.set(self._server.connections)
        metrics.free_bytes.set(self.store.files.free)
        kept, kept_bytes = await self.store.counts()
        set_all_gauge_values(metrics.kept, kept)
        set_all_gauge_values(metrics.kept_bytes, kept_bytes)

    async def _check_disk(self) -> str:
        try:
            self.store.files.check_room()
        except StoreError as error:
            return error.one_line()
        return ""

    async def _check_index(self) -> str:
        await self.store.counts()
        return ""

    # ---- inside

    async def _start(self) -> None:
        config, limits = self.config, self.config.limits
        client = await self._stack.enter_async_context(PortalClient(config.portal, ca=config.ca))
        self._access = Access(
            client,
            config.name,
            config.key,
            limits.access,
            realm=str(config.name),
            refused=lambda reason: self.metrics.refused.labels(reason).inc(),
            clock=self._clock,
        )
        self.store = await asyncio.to_thread(
            Store,
            config.images_folder,
            max_blob_bytes=limits.blob,
            keep_free=limits.keep_free,
            unfinished_s=limits.unfinished,
            clock=self._clock,
        )
        self._stack.push_async_callback(self.store.close)
        await self.store.garbage.remove_unfinished_packs()
        self._sending = sending_threads()
        self._stack.callback(self._sending.shutdown, wait=False)
        self._stack.push_async_callback(self._server.stop)
        await self._server.start()
        for name, work in (
            ("garbage", self._collect_garbage()),
            ("certificate", self._server.follow()),
        ):
            task = asyncio.create_task(work, name=f"image server: {name}")
            self._tasks.append(task)
            self._stack.push_async_callback(_end_for_image_server, task)
        _log.info("%s listens on %s", config.name, [*self.ports, *self.secure_ports])

    async def _collect_garbage(self) -> None:
        while True:
            await asyncio.sleep(self.config.limits.garbage)
            try:
                removed = await self.store.garbage.collect()
            except (StoreError, OSError) as error:
                _log.warning("what nobody needs could not be removed: %s", error)
                continue
            for what, count in removed.items():
                self.metrics.collected.labels(what).inc(count)
            if any(removed.values()):
                _log.info("removed what nobody needs: %s", dict(removed))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Find out what is asked, and whether the caller may; then have it done."""
        path = request.path
        if self.config.prefix and path.startswith(f"{self.config.prefix}/v2"):
            path = path.removeprefix(self.config.prefix)
        try:
            asked = read_path(path)
        except InvalidRepository:
            asked = None
            request[_ROUTE] = "invalid"
            await self._access.require_login(request.headers.get("Authorization", ""))
            raise Refused(400, "NAME_INVALID", "this is not the name of a repository") from None
        if asked is None:
            raise Refused(404, "UNSUPPORTED", "there is nothing here", hint="the API is at /v2/")
        request[_ROUTE] = asked.endpoint.name.lower()
        credentials = request.headers.get("Authorization", "")
        verbs = VERBS.get(asked.endpoint)
        if verbs is None:
            return await self._answer_base(request, asked.endpoint, credentials)
        verb = verbs.get(request.method)
        if verb is None:
            raise Refused(
                405,
                "UNSUPPORTED",
                f"{request.method[:20]} is not done here",
                headers={"Allow": ", ".join(verbs)},
            )
        began = time.monotonic()
        await self._access.require(credentials, verb, asked.repository)
        self.metrics.request_seconds.observe(time.monotonic() - began)
        return await self._handlers[asked.endpoint](
            Call(
                request=request,
                repository=asked.repository,
                last=asked.last,
                credentials=credentials,
                prefix=self.config.prefix,
                store=self.store,
                access=self._access,
                limits=self.config.limits,
                metrics=self.metrics,
                threads=self._sending,
            )
        )

    async def _answer_base(
        self, request: web.Request, endpoint: RegistryEndpoint, credentials: str
    ) -> web.StreamResponse:
        """end-1: clients learn here how to log in."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "UNSUPPORTED", "only GET is done here", headers={"Allow": "GET"})
        await self._access.require_login(credentials)
        if endpoint is RegistryEndpoint.EXTENSIONS:
            return web.json_response(http_api.answer_extensions_request())
        return web.json_response({})

    @web.middleware
    async def _count(
        self, request: web.Request, handler: http_errors.Handler
    ) -> web.StreamResponse:
        response = await handler(request)
        method = request.method if request.method in _METHODS else "other"
        route = request.get(_ROUTE, "none")
        self.metrics.requests.labels(method, route, str(response.status)).inc()
        return response


async def _without_server(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


async def _end_for_image_server(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
