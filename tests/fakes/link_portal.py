"""A small portal for tests that a scheduler's link can be opened to, with real signatures."""

import asyncio
import base64
import contextlib
import secrets
import uuid
from typing import Any

import asyncssh
from aiohttp import WSMsgType, web
from fakes.registry import RegistryPortal

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    LINK_NAMESPACE,
    Ack,
    AllocatedKey,
    Challenge,
    ClusterState,
    Hello,
    ImageChecked,
    InstanceLogs,
    InstanceReport,
    MemoryUse,
    PortalFrame,
    SchedulerFrame,
    ToPortalEnvelope,
    ToScheduler,
    ToSchedulerEnvelope,
    Welcome,
    opening_statement,
)


class LinkPortal(RegistryPortal):
    """Keeps its orders until they are acknowledged, and what it is told by id.

    :ivar newest: instance id → its newest report, by ``sequence``.
    :ivar states: instance id → its states in the order of their reports, each once.
    :ivar keys, logs, cluster, memory, images: what else it was told.
    :ivar opened: how many links were opened.
    :ivar refuse: a reason to close every link with 4403.
    :ivar welcome_key: what Welcome is signed with.
    :ivar acknowledges: False to keep every acknowledgement back.
    :ivar copies: how often every order is sent.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.orders: dict[str, ToScheduler] = {}
        self.newest: dict[str, InstanceReport] = {}
        self.reports: list[InstanceReport] = []
        self.keys: list[AllocatedKey] = []
        self.logs: dict[str, InstanceLogs] = {}
        self.cluster: ClusterState | None = None
        self.memory: dict[str, MemoryUse] = {}
        self.images: dict[str, ImageChecked] = {}
        self.arrived: list[str] = []
        self.opened = 0
        self.refuse: str | None = None
        self.welcome_key = self.key
        self.acknowledges = True
        self.copies = 1
        self._sockets: dict[web.WebSocketResponse, set[str]] = {}
        self._news = asyncio.Condition()

    def add_routes(self, app: web.Application) -> None:
        """The scheduler's way in."""
        app.router.add_get("/schedulers/{id}/link", self._link)

    async def order(self, body: ToScheduler) -> str:
        """Store an order and send it; its id."""
        id = uuid.uuid4().hex
        self.orders[id] = body
        for socket in list(self._sockets):
            await self._flush(socket)
        return id

    async def replay(self, id: str, body: ToScheduler) -> None:
        """Send an order again on every open link."""
        for socket in list(self._sockets):
            await _send(socket, ToSchedulerEnvelope(id=id, body=body))

    async def cut(self) -> None:
        """Break every link without a word."""
        while self._sockets:
            socket, _ = self._sockets.popitem()
            if (transport := socket._req.transport) is not None:
                transport.abort()

    async def until(self, true: Any, timeout: float = 20) -> None:
        """Wait until ``true()``, looked at whenever something has arrived."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(true)
        except TimeoutError:
            raise AssertionError(f"did not become so; newest: {self.newest}") from None

    async def until_state(self, instance: str, *states: State, timeout: float = 20) -> Any:
        """Wait until the newest report of an instance has one of these states; the report."""
        await self.until(
            lambda: instance in self.newest and self.newest[instance].state in states, timeout
        )
        return self.newest[instance]

    def states(self, instance: str) -> list[State]:
        """The states that were reported, by sequence, repetitions left out."""
        mine = {r.sequence: r.state for r in self.reports if r.instance == instance}
        found: list[State] = []
        for sequence in sorted(mine):
            if not found or found[-1] is not mine[sequence]:
                found.append(mine[sequence])
        return found

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=10)
        await socket.prepare(request)
        self.opened += 1
        name = PeerName.of("scheduler", request.match_info["id"])
        if self.refuse is not None or not await self._open(socket, name):
            await socket.close(code=4403, message=(self.refuse or "not this key").encode())
            return socket
        self._sockets[socket] = set()
        await self._flush(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._take(socket, message.data)
        finally:
            self._sockets.pop(socket, None)
        return socket

    async def _open(self, socket: web.WebSocketResponse, name: PeerName) -> bool:
        nonce = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        await socket.send_str(encode(Challenge(nonce=nonce)).decode())
        hello = decode(await socket.receive_str(), Hello)

        def statement(signer: str) -> bytes:
            return opening_statement(signer, str(name), self.url, nonce, hello.nonce)

        try:
            keys: list[asyncssh.SSHKey] = self._keys.get(name, [])
            sshsig.verify(statement("scheduler"), hello.signature, LINK_NAMESPACE, keys)
        except sshsig.InvalidSignature:
            return False
        signature = sshsig.sign(self.welcome_key, statement("portal"), LINK_NAMESPACE)
        await socket.send_str(encode(Welcome(signature=signature)).decode())
        return True

    async def _flush(self, socket: web.WebSocketResponse) -> None:
        sent = self._sockets[socket]
        for id, body in list(self.orders.items()):
            if id not in sent:
                sent.add(id)
                for _ in range(self.copies):
                    await _send(socket, ToSchedulerEnvelope(id=id, body=body))

    async def _take(self, socket: web.WebSocketResponse, data: str) -> None:
        kind: Any = SchedulerFrame
        frame = decode(data, kind)
        if isinstance(frame, Ack):
            self.orders.pop(frame.id, None)
        elif isinstance(frame, ToPortalEnvelope):
            if frame.id not in self.arrived:
                self._note(frame.body)
            self.arrived.append(frame.id)
            if self.acknowledges:
                await _send(socket, Ack(id=frame.id))
        async with self._news:
            self._news.notify_all()

    def _note(self, body: Any) -> None:
        match body:
            case InstanceReport():
                self.reports.append(body)
                newest = self.newest.get(body.instance)
                if newest is None or newest.sequence < body.sequence:
                    self.newest[body.instance] = body
            case AllocatedKey():
                self.keys.append(body)
            case InstanceLogs():
                self.logs[body.request] = body
            case ImageChecked():
                self.images[body.request] = body
            case ClusterState():
                self.cluster = body
            case MemoryUse():
                self.memory[body.node] = body


async def _send(socket: web.WebSocketResponse, frame: PortalFrame) -> None:
    """What is lost with a line is sent again on the next one."""
    with contextlib.suppress(ConnectionError):
        await socket.send_str(encode(frame).decode())
