"""A node for tests that has pods in memory: keys and signatures are real, containers are not."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import asyncssh

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.link import INSTANCE_KEY_NAMESPACE, key_statement
from dit4c_p2p.messages.node import (
    Alive,
    CheckpointPod,
    Describe,
    DiscardPod,
    EnsureImage,
    Failure,
    FollowEvents,
    ImageReady,
    ImageUploaded,
    ListPods,
    LogText,
    NodeDescription,
    NodeReply,
    NodeRequest,
    PodEvent,
    PodGone,
    PodKey,
    PodList,
    PodLogs,
    PodMemory,
    PodRunning,
    PodSaved,
    PodState,
    PodStatus,
    PodStopped,
    Progress,
    ResolveImage,
    SavePod,
    StartPod,
    StopPod,
    UploadImage,
)
from dit4c_p2p.overlay.errors import NoKeyInForce, Unreachable


class FakeNode:
    """Serves the verbs.

    :ivar pods: instance id → status; ``made`` counts how often each was made, ``starts`` how often
        its app was started, ``uploads`` how often it was uploaded.
    :ivar asked: every request, in order.
    :ivar hold: a verb's name → an event that it waits for before it ends.
    :ivar reached: a verb's name → set when it is waiting there.
    :ivar fail: a verb's name → the failures that its next calls end with.
    :ivar history: every event there was.
    :ivar online: False: nobody gets through; ``key_revoked``: the portal has no key for it.
    :ivar said_keys: what it says instead of the key that it has made.
    """

    def __init__(self, name: str = "node-home", key: asyncssh.SSHKey | None = None) -> None:
        self.name = PeerName.parse(name)
        self.key = key or generate()
        self.max_pods = 4
        self.pods: dict[str, PodStatus] = {}
        self.made: Counter[str] = Counter()
        self.runs: dict[str, int] = {}
        self.starts: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.keys: dict[str, asyncssh.SSHKey] = {}
        self.key_runs: dict[str, int] = {}
        self.asked: list[NodeRequest] = []
        self.hold: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = {}
        self.fail: dict[str, list[Failure]] = {}
        self.progress: list[Progress] = [Progress(info="half way", fraction=0.5)]
        self.log = "one\ntwo\n"
        self.online = True
        self.key_revoked = False
        self.said_keys: list[PodKey] = []
        self.connections: set[MemoryConnection] = set()
        self.dials = 0
        self.history: list[PodEvent] = []
        self._locks: dict[str, asyncio.Lock] = {}
        self._followers: set[asyncio.Queue[PodEvent | PodMemory]] = set()

    # ---- for tests

    def hold_at(self, verb: type) -> asyncio.Event:
        """Let calls of a verb wait; returns the event that tells that one does."""
        self.hold[verb.__name__] = asyncio.Event()
        self.reached[verb.__name__] = asyncio.Event()
        return self.reached[verb.__name__]

    def let_go(self, verb: type) -> None:
        """Let them go on, and later ones as well."""
        event = self.hold.pop(verb.__name__, None)
        if event is not None:
            event.set()

    def count(self, verb: type) -> int:
        """How often a verb was asked for."""
        return sum(isinstance(request, verb) for request in self.asked)

    def end(self, instance: str, exit_code: int, reason: str = "", log_tail: str = "") -> None:
        """The app ends."""
        self.set(
            instance,
            PodStatus(
                instance=instance,
                state=PodState.EXITED,
                exit_code=exit_code,
                reason=reason,
                log_tail=log_tail,
                run=self.runs.get(instance, 1),
            ),
        )

    def interrupt(self, instance: str) -> None:
        """The machine goes down and comes back; the pod waits to be started again."""
        down = PodStatus(
            instance=instance,
            state=PodState.INTERRUPTED,
            reason="it went down",
            run=self.runs.get(instance, 1),
        )
        self.set(instance, down)

    def set(self, instance: str, status: PodStatus | None) -> None:
        """A pod changes, and whoever follows the events is told."""
        if status is None:
            self.pods.pop(instance, None)
        else:
            self.pods[instance] = status
        self.history.append(PodEvent(instance=instance, status=status))
        for follower in self._followers:
            follower.put_nowait(self.history[-1])

    def say_again(self, event: PodEvent) -> None:
        """An event comes late, or again."""
        for follower in self._followers:
            follower.put_nowait(event)

    def tell_memory(self, memory: PodMemory) -> None:
        """What the apps use."""
        for follower in self._followers:
            follower.put_nowait(memory)

    def cut(self) -> None:
        """Break every line."""
        for connection in list(self.connections):
            connection.broken.set()

    # ---- verbs

    async def serve(self, line: bytes) -> AsyncGenerator[NodeReply, None]:
        """The handler of an overlay call."""
        kind: Any = NodeRequest
        async for reply in self.answer(decode(line, kind)):
            yield reply

    async def answer(self, request: NodeRequest) -> AsyncGenerator[NodeReply, None]:
        """One call."""
        verb = type(request).__name__
        if not isinstance(request, FollowEvents):
            self.asked.append(request)
        failures = self.fail.get(verb, [])
        if failures:
            yield failures.pop(0)
            return
        match request:
            case FollowEvents():
                async for event in self._follow():
                    yield event
            case Describe():
                await self._held(verb)
                yield NodeDescription(
                    name=str(self.name),
                    version="0",
                    cpus=2,
                    memory_bytes=1 << 30,
                    pods=len(self.pods),
                    max_pods=self.max_pods,
                )
            case ListPods():
                yield PodList(pods=list(self.pods.values()))
            case PodLogs():
                await self._held(verb)
                yield LogText(text=self.log)
            case EnsureImage():
                for progress in self.progress:
                    yield progress
                await self._held(verb)
                yield ImageReady(image=request.image, port=8888)
            case ResolveImage():
                await self._held(verb)
                yield ImageReady(image=f"tool@sha256:{'5' * 64}", port=8888)
            case StartPod():
                async with self._locks.setdefault(request.instance, asyncio.Lock()):
                    async for reply in self._start(request):
                        yield reply
            case StopPod():
                await self._held(verb)
                if request.instance not in self.pods:
                    yield Failure(code="no_such_pod", text="there is no such pod")
                    return
                if self.pods[request.instance].state is not PodState.EXITED:
                    self.end(request.instance, 143, "it was stopped as asked")
                yield PodStopped(instance=request.instance)
            case SavePod():
                await self._held(verb)
                if request.instance not in self.pods:
                    yield Failure(code="no_such_pod", text="there is no such pod")
                    return
                yield PodSaved(instance=request.instance, bytes=1000)
            case UploadImage() | CheckpointPod():
                for progress in self.progress:
                    yield progress
                await self._held(verb)
                if request.instance not in self.pods:
                    yield Failure(code="no_such_pod", text="there is no such pod")
                    return
                self.uploads[request.instance] += 1
                digest = "sha256:" + hashlib.sha256(request.save.encode()).hexdigest()
                yield ImageUploaded(instance=request.instance, save=request.save, digest=digest)
            case DiscardPod():
                async with self._locks.setdefault(request.instance, asyncio.Lock()):
                    await self._held(verb)
                    self.set(request.instance, None)
                yield PodGone(instance=request.instance)

    async def _start(self, request: StartPod) -> AsyncGenerator[NodeReply, None]:
        id = request.instance
        if request.key_run > self.key_runs.get(id, 0):
            self.key_runs[id] = request.key_run
            self.keys.pop(id, None)
        key = self.keys.setdefault(id, generate())
        statement = key_statement(id, str(self.name), fingerprint(key), request.key_nonce)
        made = PodKey(
            public_key=public_line(key),
            instance_signature=sshsig.sign(key, statement, INSTANCE_KEY_NAMESPACE),
            node_signature=sshsig.sign(self.key, statement, INSTANCE_KEY_NAMESPACE),
        )
        for said in self.said_keys or [made]:
            yield said
        now = self.pods.get(id)
        if now is None and request.kept:
            yield Failure(code="no_such_pod", text="its container is gone")
            return
        if now is None:
            self.made[id] += 1
        again = now is not None and (
            now.state is PodState.INTERRUPTED
            or (now.state is PodState.EXITED and request.run > self.runs.get(id, 1))
        )
        if now is None or again:
            self.runs[id] = request.run
            self.starts[id] += 1
            self.set(id, PodStatus(instance=id, state=PodState.RUNNING, run=request.run))
        for progress in self.progress:
            yield progress
        await self._held("StartPod")
        status = self.pods.get(id)
        if status is None or status.state is PodState.EXITED:
            reason = status.reason if status else "removed meanwhile"
            yield Failure(
                code="app_exited", text=reason, log_tail=status.log_tail if status else ""
            )
            return
        yield PodRunning(instance=id)

    async def _held(self, verb: str) -> None:
        if verb in self.hold:
            self.reached[verb].set()
            await self.hold[verb].wait()

    async def _follow(self) -> AsyncGenerator[NodeReply, None]:
        queue: asyncio.Queue[PodEvent] = asyncio.Queue()
        self._followers.add(queue)
        try:
            yield Alive()
            while True:
                yield await queue.get()
        finally:
            self._followers.discard(queue)


class MemoryConnection:
    """A line to a :class:`FakeNode` without SSH beneath it; breaks when ``broken`` is set."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.broken = asyncio.Event()
        node.connections.add(self)

    async def call(self, request: NodeRequest, silence_s: float) -> AsyncGenerator[NodeReply, None]:
        replies = self.node.answer(request)
        try:
            while True:
                reply = await self._next(replies)
                if reply is None:
                    return
                yield reply
        finally:
            await replies.aclose()

    async def _next(self, replies: AsyncGenerator[NodeReply, None]) -> NodeReply | None:
        coming = asyncio.ensure_future(anext(replies, None))
        broken = asyncio.ensure_future(self.broken.wait())
        try:
            await asyncio.wait((coming, broken), return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                raise Unreachable("the connection broke")
            return coming.result()
        finally:
            for task in (coming, broken):
                task.cancel()
            await asyncio.gather(coming, broken, return_exceptions=True)

    async def close(self) -> None:
        self.broken.set()
        self.node.connections.discard(self)


def memory_dialler(*nodes: FakeNode) -> Any:
    """Reaches these nodes as long as they are online."""
    by_name = {node.name: node for node in nodes}

    async def reach(name: PeerName) -> MemoryConnection:
        node = by_name[name]
        node.dials += 1
        if node.key_revoked:
            raise NoKeyInForce(name)
        if not node.online:
            raise Unreachable(f"no way to {name}")
        return MemoryConnection(node)

    return reach
