"""A small portal for tests: published keys with real signatures, key events, page states.

    async with RegistryPortal() as portal:
        portal.publish(PeerName.parse("node-home"), key, scheduler="main")
        async with PortalClient(portal.info) as client: ...
        portal.revoke(PeerName.parse("node-home"))

It listens on 127.0.0.1 on a port of its own, and can go away and come back (``stop``/``start``).
"""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import asyncssh
from aiohttp import web

from dit4c_p2p.identity import key_documents, sshsig, tokens
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.helper import AnswersOn
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.messages.registry import (
    SIGNATURE_HEADER,
    AccessEnded,
    EndedAccess,
    Heartbeat,
    KeyEvent,
    SignedEvent,
)


class RegistryPortal:
    """Publishes keys as the portal does.

    :ivar key: the portal's own key; ``info`` pins it.
    :ivar heartbeats: set to False to keep the events silent.
    :ivar first_words: said at the beginning of each stream of events, before any.
    :ivar page_states: instance id → what ``GET /instances/{id}/page-state`` answers with.
    :ivar documents_status: the status that documents are answered with.
    :ivar signs_in_header: set to False to be of a release that has signatures at ``.sig`` alone.
    :ivar clock_offset_s: how far ahead heartbeats say the time is.
    :ivar tokens: the bearer tokens with which the page state was asked for.
    :ivar answers_on: the bodies of ``PUT /instances/``, in their order.
    :ivar lookups: how often each name's keys were asked for.
    :ivar ended: whose access has ended, told to routers.
    """

    def __init__(self, *, heartbeat_s: float = 0.5) -> None:
        self.key = generate()
        self.heartbeats = True
        self.first_words = b""
        self.page_states: dict[str, dict[str, Any]] = {}
        self.page_delay_s = 0.0
        self.page_status = 200
        self.documents_status = 200
        self.signs_in_header = True
        self.clock_offset_s = 0
        self.tokens: list[str] = []
        self.answers_on: list[AnswersOn] = []
        self.lookups: dict[PeerName, int] = {}
        self._heartbeat_s = heartbeat_s
        self._keys: dict[PeerName, list[asyncssh.SSHKey]] = {}
        self._schedulers: dict[PeerName, str] = {}
        self._bodies: dict[int, bytes] = {}
        self._serial = 0
        self._change = 0
        self.ended: list[EndedAccess] = []
        self._streams: set[asyncio.Queue[SignedEvent]] = set()
        self._routers: set[asyncio.Queue[SignedEvent]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    # ---- for tests

    @property
    def info(self) -> PortalInfo:
        """What a peer is told of this portal."""
        return PortalInfo(name="portal-main", url=self.url, key=public_line(self.key))

    @property
    def url(self) -> str:
        """The canonical URL."""
        return f"http://localhost:{self._port}"

    def publish(self, name: PeerName, key: asyncssh.SSHKey, scheduler: str | None = None) -> None:
        """Bring ``key`` into force for ``name``; ``scheduler`` is whom a node belongs to."""
        self._keys.setdefault(name, []).append(key.convert_to_public())
        if scheduler is not None:
            self._schedulers[name] = scheduler
        self._changed(name, key, "published")

    def revoke(self, name: PeerName, key: asyncssh.SSHKey | None = None) -> None:
        """Take ``key``, or all keys, of ``name`` out of force."""
        for held in list(self._keys.get(name, [])):
            if key is None or fingerprint(held) == fingerprint(key):
                self._keys[name].remove(held)
                self._changed(name, held, "revoked")

    def end_access(self, instance: str, person: str) -> None:
        """Tell the routers that a person's access to an instance has ended."""
        self.ended.append(EndedAccess(instance=instance, person=person, at=time.time()))
        for queue in self._routers:
            queue.put_nowait(self._signed(AccessEnded(ended=self.ended[-1:])))

    def new_peer(self, name: str, scheduler: str | None = None) -> tuple[PeerName, asyncssh.SSHKey]:
        """A peer with a fresh key, published."""
        peer, key = PeerName.parse(name), generate()
        self.publish(peer, key, scheduler)
        return peer, key

    def add_routes(self, app: web.Application) -> None:
        """For subclasses that are more of a portal."""

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_get("/keys/events", self._events)
        app.router.add_get("/known_hosts", self._known_hosts)
        app.router.add_get("/instances/{id}/page-state", self._page_state)
        app.router.add_put("/instances/", self._answers_on)
        app.router.add_get("/{kind}/{id}/ssh-keys", self._document)
        app.router.add_get("/{kind}/{id}/ssh-keys.sig", self._signature)
        self.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; what was published stays."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # ---- handlers

    def _changed(self, name: PeerName, key: asyncssh.SSHKey, what: Any) -> None:
        self._change += 1
        event = KeyEvent(
            change=self._change,
            name=str(name),
            fingerprint=fingerprint(key),
            what=what,
            at=int(time.time()),
        )
        if self.heartbeats:
            for queue in self._streams:
                queue.put_nowait(self._signed(event))

    def _signed(self, event: KeyEvent | Heartbeat | AccessEnded) -> SignedEvent:
        body = encode(event)
        return SignedEvent(
            body=body.decode(),
            signature=sshsig.sign(self.key, body, sshsig.EVENTS_NAMESPACE),
        )

    async def _document(self, request: web.Request) -> web.Response:
        try:
            kind = request.match_info["kind"].removesuffix("s")
            name = PeerName.of(kind, request.match_info["id"])
        except InvalidName:
            raise web.HTTPNotFound from None
        self.lookups[name] = self.lookups.get(name, 0) + 1
        self._serial += 1
        now = int(time.time())
        body = key_documents.compose_key_document(
            KeyDocument(
                name=name,
                serial=self._serial,
                change=self._change,
                issued=now,
                expires=now + key_documents.LIFETIME_S,
                keys=tuple(self._keys.get(name, ())),
                scheduler=self._schedulers.get(name),
            )
        )
        self._bodies[self._serial] = body
        headers = {}
        if self.signs_in_header:
            signature = sshsig.sign(self.key, body, sshsig.KEYS_NAMESPACE)
            headers[SIGNATURE_HEADER] = sshsig.without_armor(signature)
        return web.Response(
            body=body, content_type="text/plain", status=self.documents_status, headers=headers
        )

    async def _signature(self, request: web.Request) -> web.Response:
        body = self._bodies[int(request.query["serial"])]
        return web.Response(text=sshsig.sign(self.key, body, sshsig.KEYS_NAMESPACE))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(self.first_words)
        queue: asyncio.Queue[SignedEvent] = asyncio.Queue()
        self._streams.add(queue)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            issuer = tokens.read_head(token).issuer
            assert issuer.kind is Kind.ROUTER
            tokens.verify(token, self._keys.get(issuer, []), self.url, now=time.time())
            self._routers.add(queue)
            queue.put_nowait(self._signed(AccessEnded(ended=self.ended)))
        try:
            while True:
                if self.heartbeats:
                    at = int(time.time()) + self.clock_offset_s
                    beat = Heartbeat(change=self._change, at=at)
                    await response.write(b"data: " + encode(self._signed(beat)) + b"\n\n")
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        event = await queue.get()
                    await response.write(b"data: " + encode(event) + b"\n\n")
                except TimeoutError:
                    continue
        finally:
            self._streams.discard(queue)
            self._routers.discard(queue)

    async def _known_hosts(self, request: web.Request) -> web.Response:
        lines = [f"{name} {public_line(key)}" for name, keys in self._keys.items() for key in keys]
        return web.Response(text="\n".join(lines) + "\n")

    async def _answers_on(self, request: web.Request) -> web.Response:
        self.answers_on.append(decode(await request.read(), AnswersOn))
        return web.Response(status=204)

    async def _page_state(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        await asyncio.sleep(self.page_delay_s)
        state = self.page_states.get(request.match_info["id"], {"state": "unknown", "title": ""})
        return web.json_response(state, status=self.page_status)
