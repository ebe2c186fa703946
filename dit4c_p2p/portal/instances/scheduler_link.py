"""The portal's end of the WebSocket that each scheduler keeps open (see ``messages.link``).

    opening ──both keys proved──▶ open ──lost, replaced, revoked, stopping──▶ closed

While it is open, one task sends what waits for the scheduler and the other takes what it says. The
scheduler's identity is the path's id, proved by its key; every message is checked against it.
"""

import asyncio
import base64
import logging
import secrets
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import asyncssh
from aiohttp import WSMsgType, web

from dit4c_p2p.database import in_transaction
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import InvalidName, InvalidSignature
from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import (
    MAX_MESSAGE_BYTES,
    InvalidMessage,
    UnknownKind,
    decode,
    encode,
)
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.messages.link import (
    HEARTBEAT_S,
    LINK_NAMESPACE,
    REFUSED_CODE,
    REPLACED_CODE,
    Ack,
    AllocatedKey,
    AnyEnvelope,
    Challenge,
    CheckImage,
    ClusterState,
    Hello,
    ImageChecked,
    InstanceLogs,
    InstanceReport,
    MemoryUse,
    PortalFrame,
    RequestLogs,
    RequestState,
    SchedulerFrame,
    ToPortalEnvelope,
    ToScheduler,
    ToSchedulerEnvelope,
    Welcome,
    opening_statement,
)
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.net.connection_limits import PerAddressLimiter
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.portal.audit import Audit, set_request_identity
from dit4c_p2p.portal.errors import BadRequest, NotFound, TookTooLong, TooMany, Unavailable
from dit4c_p2p.portal.instances import moves, saves
from dit4c_p2p.portal.instances.instances import REFUSALS, Instances
from dit4c_p2p.portal.instances.memory import MemoryTable
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.keys.known_addresses import KnownAddresses
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.models import Incoming, Instance, Outgoing
from dit4c_p2p.portal.opaque_tokens import digest

_log = summed(logging.getLogger(__name__))

T = TypeVar("T", InstanceLogs, ImageChecked)

_OPENING_S = 5
_CLOSING_S = 2.0
_MAX_OPENING = 16
_MAX_OPENING_PER_ADDRESS = 4
_BATCH = 100
_MAX_ID_CHARS = 64
_MAX_REASON_BYTES = 120


class SchedulerLink:
    """One open link; ``cut`` asks for its end with a code and a reason."""

    def __init__(
        self, socket: web.WebSocketResponse, scheduler: PeerName, key_fingerprint: str
    ) -> None:
        self.scheduler = scheduler
        self.fingerprint = key_fingerprint
        self.wake = asyncio.Event()
        self.cluster: ClusterState | None = None
        self._socket = socket
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def cut(self, code: int, reason: str) -> None:
        """End the link; nothing more of the scheduler's is taken."""
        if not self._end.done():
            self._end.set_result((code, reason))

    async def ended(self) -> tuple[int, str]:
        """Wait for :meth:`cut`."""
        return await asyncio.shield(self._end)

    async def send(self, frame: PortalFrame) -> None:
        """One text frame."""
        await self._socket.send_str(encode(frame).decode())

    async def send_message(self, body: ToScheduler) -> None:
        """A message that is not worth keeping: it asks for something now."""
        await self.send(ToSchedulerEnvelope(id=uuid.uuid4().hex, body=body))


class SchedulerLinks:
    """Every scheduler's link, the newest for each."""

    def __init__(
        self,
        key: asyncssh.SSHKey,
        portal_url: str,
        registry: KeyRegistry,
        known: KnownAddresses,
        audit: Audit,
        reach: Reachability,
        memory: MemoryTable,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._url = portal_url
        self._registry = registry
        self._clock = clock
        self._links: dict[str, SchedulerLink] = {}
        self._known = known
        self._audit = audit
        self._reach = reach
        self._memory = memory
        self._opening = PerAddressLimiter(_MAX_OPENING, _MAX_OPENING_PER_ADDRESS)
        self._asked: dict[str, tuple[str, asyncio.Future[InstanceLogs | ImageChecked]]] = {}
        self._closed = False
        registry.watch(self._key_changed)

    def kick(self, scheduler: str) -> None:
        """Send a scheduler its new messages."""
        if link := self._links.get(scheduler):
            link.wake.set()

    @property
    def count(self) -> int:
        """Return the number of open links."""
        return len(self._links)

    def connected(self, scheduler: str) -> bool:
        """Whether the scheduler's link is open."""
        return scheduler in self._links

    def cluster(self, scheduler: str) -> ClusterState | None:
        """What the scheduler last said of its nodes; None if it is not connected or was silent."""
        link = self._links.get(scheduler)
        return link.cluster if link else None

    def close(self) -> None:
        """End every link: the portal is stopping."""
        self._closed = True
        for link in self._links.values():
            link.cut(1001, "the portal is stopping")

    async def request_logs(self, instance: Instance, lines: int, timeout_s: float) -> str:
        """The newest lines of an instance's log, asked of its scheduler now.

        :raises Unavailable: the scheduler is not connected, or has no log to give.
        :raises TookTooLong: no answer in that time.
        """
        request = uuid.uuid4().hex
        order = RequestLogs(request=request, instance=instance.id, lines=lines)
        logs = await self._answer(instance.scheduler, order, InstanceLogs, timeout_s)
        if logs is None:
            raise TookTooLong(f"the log did not arrive within {timeout_s:g} s", hint="try again")
        if logs.error:
            raise Unavailable(f"there is no log: {logs.error}")
        return logs.text

    async def check_image(self, scheduler: str, reference: str, timeout_s: float) -> str:
        """What a reference means now, by digest, once a machine has fetched it.

        :raises Unavailable: the scheduler is not connected.
        :raises TookTooLong: no answer in that time; the machine goes on fetching.
        :raises BadRequest: no machine can have it; the reason is the last one's.
        """
        order = CheckImage(request=uuid.uuid4().hex, reference=reference)
        checked = await self._answer(scheduler, order, ImageChecked, timeout_s)
        if checked is None:
            raise TookTooLong(
                f"no machine has the image after {timeout_s:g} s; one may still be fetching it",
                hint="do the same again in a few minutes",
            )
        if checked.error:
            raise BadRequest(f"no machine can have this image: {checked.error}", field="image")
        return checked.image

    async def _answer(
        self, scheduler: str, order: RequestLogs | CheckImage, kind: type[T], timeout_s: float
    ) -> T | None:
        """A scheduler's answer to what is asked now; None if there is none in that time."""
        link = self._links.get(scheduler)
        if link is None:
            raise Unavailable("the scheduler is not connected", hint="try again in a moment")
        answer: asyncio.Future[InstanceLogs | ImageChecked]
        answer = asyncio.get_running_loop().create_future()
        self._asked[order.request] = (scheduler, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await link.send_message(order)
                said = await answer
        except (TimeoutError, ConnectionError):
            return None
        finally:
            del self._asked[order.request]
        return said if isinstance(said, kind) else None

    async def serve(
        self, request: web.Request, scheduler: PeerName, instances: Instances
    ) -> web.WebSocketResponse:
        """One link from its opening to its end; called for ``GET /schedulers/{id}/link``."""
        socket = web.WebSocketResponse(
            timeout=_CLOSING_S,
            heartbeat=HEARTBEAT_S,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
        )
        if not socket.can_prepare(request):
            raise NotFound("this is a WebSocket")
        with self._opening.hold(request.remote) as held:
            if self._closed or not held:
                raise TooMany("too many links are being opened", hint="try again in a moment")
            await socket.prepare(request)
            try:
                async with asyncio.timeout(_OPENING_S):
                    link = await self._open(socket, scheduler)
            except (DitError, TimeoutError, ConnectionError) as error:
                reason = str(error) or "the opening took too long"
                _log.warning("link of %s refused: %s", scheduler, reason)
                await self._audit.record_refusal("link.open", reason, about=str(scheduler))
                await socket.close(code=REFUSED_CODE, message=_close_reason(reason))
                return socket
        self._known.proved(request.remote)
        set_request_identity(str(scheduler), key=link.fingerprint)
        await self._audit.record_best_effort("link.open")
        await self._run(link, socket, instances)
        return socket

    # ---- opening

    async def _open(self, socket: web.WebSocketResponse, scheduler: PeerName) -> SchedulerLink:
        """Prove both keys.

        :raises DitError: the other end is not this scheduler.
        """
        nonce = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        await socket.send_str(encode(Challenge(nonce=nonce)).decode())
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise InvalidMessage("the opening ended, or is no text")
        frame = _decode_scheduler_message(message.data)
        if not isinstance(frame, Hello) or frame.name != str(scheduler):
            raise InvalidMessage("not the scheduler that the path names")
        key = await self._proved(scheduler, nonce, frame)
        statement = opening_statement("portal", str(scheduler), self._url, nonce, frame.nonce)
        link = SchedulerLink(socket, scheduler, fingerprint(key))
        await link.send(Welcome(signature=sshsig.sign(self._key, statement, LINK_NAMESPACE)))
        self._registry.seen(link.fingerprint)
        return link

    async def _proved(self, scheduler: PeerName, nonce: str, hello: Hello) -> asyncssh.SSHKey:
        statement = opening_statement("scheduler", str(scheduler), self._url, nonce, hello.nonce)
        for key in await self._registry.in_force(scheduler):
            try:
                sshsig.verify(statement, hello.signature, LINK_NAMESPACE, [key])
            except InvalidSignature:
                continue
            return key
        raise InvalidSignature("not signed by a key that is in force for this scheduler")

    # ---- open

    async def _run(
        self, link: SchedulerLink, socket: web.WebSocketResponse, instances: Instances
    ) -> None:
        scheduler = link.scheduler.id
        if before := self._links.get(scheduler):
            before.cut(REPLACED_CODE, "a newer link took over")
        self._links[scheduler] = link
        self._reach.link_opened(scheduler)
        if self._closed or link.fingerprint not in {
            fingerprint(key) for key in await self._registry.in_force(link.scheduler)
        }:
            link.cut(REFUSED_CODE, "the key is not in force")
        _log.info("link of %s: open", link.scheduler)
        tasks = [
            asyncio.create_task(self._receive(link, socket, instances), name="link receive"),
            asyncio.create_task(self._send(link), name="link send"),
            asyncio.create_task(link.ended(), name="link end"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            if self._links.get(scheduler) is link:
                del self._links[scheduler]
                self._reach.link_lost(scheduler)
        code, reason = 1000, "ended"
        for result in results:
            if isinstance(result, tuple):
                code, reason = result
            elif isinstance(result, InvalidMessage):
                code, reason = 1007, str(result)
            elif isinstance(result, ConnectionError):
                reason = str(result) or "connection lost"
            elif isinstance(result, Exception):
                _log.error("link of %s failed", link.scheduler, exc_info=result)
                code, reason = 1011, "the portal could not go on"
        _log.info("link of %s: closed, %s", link.scheduler, reason)
        await self._audit.record_best_effort("link.close", outcome=f"done: {reason}")
        await socket.close(code=code, message=_close_reason(reason))

    async def _send(self, link: SchedulerLink) -> None:
        """Send what waits, in order; what is not acknowledged is sent again by the next link."""
        async for instance in Instance.filter(scheduler=link.scheduler.id, sequence__gte=0).exclude(
            state__in=list(FINAL)
        ):
            await link.send_message(RequestState(instance=instance.id))
        last = 0
        while True:
            link.wake.clear()
            waiting = (
                await Outgoing.filter(scheduler=link.scheduler.id, position__gt=last)
                .order_by("position")
                .limit(_BATCH)
            )
            for message in waiting:
                await link.send(
                    ToSchedulerEnvelope(
                        id=message.message_id,
                        body=decode(message.body, ToScheduler),  # type: ignore[arg-type]
                    )
                )
                last = message.position
            if len(waiting) < _BATCH:
                await link.wake.wait()

    async def _receive(
        self, link: SchedulerLink, socket: web.WebSocketResponse, instances: Instances
    ) -> None:
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                raise ConnectionError(f"connection lost: {message.data}")
            if message.type is not WSMsgType.TEXT:
                raise InvalidMessage("frames are text")
            try:
                frame: SchedulerFrame | AnyEnvelope = _decode_scheduler_message(message.data)
            except UnknownKind as error:
                _log.warning("message of %s passed over: %s", link.scheduler, error.one_line())
                if (envelope := _unread_envelope(message.data)) is None:
                    continue
                frame = envelope
            if isinstance(frame, Ack):
                await Outgoing.filter(message_id=frame.id, scheduler=link.scheduler.id).delete()
            elif isinstance(frame, ToPortalEnvelope | AnyEnvelope):
                if len(frame.id) > _MAX_ID_CHARS:
                    raise InvalidMessage("a message's id is too long")
                if isinstance(frame, ToPortalEnvelope):
                    await self._take(link, frame, instances)
                await link.send(Ack(id=frame.id))
            else:
                raise InvalidMessage("the opening is over")

    async def _take(
        self, link: SchedulerLink, envelope: ToPortalEnvelope, instances: Instances
    ) -> None:
        """Act on a message once; one that is not the scheduler's to send is logged and dropped."""
        body = envelope.body
        if isinstance(body, InstanceLogs | ImageChecked):
            self._take_answer(link, body)
        elif isinstance(body, ClusterState):
            await self._take_cluster(link, body)
        elif isinstance(body, MemoryUse):
            await self._memory.take(link.scheduler.id, body)
        else:
            await self._take_once(link, envelope.id, body, instances)

    async def _take_once(
        self,
        link: SchedulerLink,
        id: str,
        body: InstanceReport | AllocatedKey,
        instances: Instances,
    ) -> None:
        scheduler, changes = link.scheduler.id, list[KeyEvent]()
        async with in_transaction("portal"):
            seen = digest(scheduler, id)
            if await Incoming.exists(digest=seen):
                return
            await Incoming.create(digest=seen, at=self._clock())
            try:
                if isinstance(body, InstanceReport):
                    changes = await instances.take_report(scheduler, body)
                    await saves.take_save_report(body, self._clock())
                    await moves.take_move_report(body)
                else:
                    changes = await instances.take_key(scheduler, body)
            except REFUSALS as error:
                _log.warning("message of %s refused: %s", link.scheduler, error)
                kind = type(body).__name__
                await self._audit.record_refusal(
                    "link.message", error, about=f"{kind} {body.instance}"
                )
        self._registry.announce(changes)
        instance = await Instance.get_or_none(id=body.instance, scheduler=scheduler)
        if instance is not None:
            instances.changed(instance)

    def _take_answer(self, link: SchedulerLink, said: InstanceLogs | ImageChecked) -> None:
        scheduler, answer = self._asked.get(said.request, ("", None))
        if answer is not None and scheduler == link.scheduler.id and not answer.done():
            answer.set_result(said)

    async def _take_cluster(self, link: SchedulerLink, cluster: ClusterState) -> None:
        """Note which of the scheduler's own nodes are up."""
        link.cluster = cluster
        await self._reach.cluster_told(link.scheduler.id, cluster)
        for text in cluster.nodes_up:
            try:
                node = PeerName.parse(text)
            except InvalidName:
                continue
            if node.kind is Kind.NODE and (
                await self._registry.scheduler_of(node) == link.scheduler.id
            ):
                for key in await self._registry.in_force(node):
                    self._registry.seen(fingerprint(key))

    def _key_changed(self, event: KeyEvent) -> None:
        if event.what != "revoked":
            return
        for link in list(self._links.values()):
            if link.fingerprint == event.fingerprint:
                link.cut(REFUSED_CODE, "the scheduler's key was revoked")


def _decode_scheduler_message(data: str) -> SchedulerFrame:
    frame: SchedulerFrame = decode(data, SchedulerFrame)  # type: ignore[arg-type]
    return frame


def _unread_envelope(data: str) -> AnyEnvelope | None:
    """The envelope of what can't be read; None if it has none."""
    try:
        return decode(data, AnyEnvelope)
    except InvalidMessage:
        return None


def _close_reason(text: str) -> bytes:
    """At most as long as a close frame takes (RFC 6455 section 5.5), cut between characters."""
    return text.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
