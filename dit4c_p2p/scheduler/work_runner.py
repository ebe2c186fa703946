"""Carries out the work of an instance's state at its node; each work ends with an event.

Work may be cancelled at any moment and run again: the node's verbs are idempotent, and a broken
connection says nothing about the result. A node that can't be reached is waited for.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.link import CheckImage, ImageChecked, InstanceLogs, RequestLogs
from dit4c_p2p.messages.node import (
    CALL_SILENCE_S,
    PASSING_CODES,
    CheckpointPod,
    DiscardPod,
    EnsureImage,
    Failure,
    ImageUploaded,
    LogText,
    NodeDescription,
    NodeRequest,
    NodeResult,
    PodGone,
    PodKey,
    PodLogs,
    PodRunning,
    PodSaved,
    PodStopped,
    Progress,
    ResolveImage,
    SavePod,
    StartPod,
    StopPod,
    UploadImage,
)
from dit4c_p2p.messages.node import ImageReady as ImageIsReady
from dit4c_p2p.scheduler import lifecycle
from dit4c_p2p.scheduler.errors import NodeUnreachable
from dit4c_p2p.scheduler.lifecycle import (
    Event,
    ImageReady,
    Instance,
    Placed,
    PodStarted,
    Work,
    WorkFailed,
)
from dit4c_p2p.scheduler.node_links import QUICK_LIMIT_S, NodeLinks
from dit4c_p2p.scheduler.placement import PlaceOnNode, choose_node
from dit4c_p2p.scheduler.store import Store

_log = logging.getLogger(__name__)

# Tell the instance's user something: a sentence, and 0..1 or None.
Say = Callable[[str, float | None], None]
Apply = Callable[[str, Event], Awaitable[Instance]]

# Removing may have to wait for a start that is under way to let go.
REMOVE_LIMIT_S = 300
# A node that has got room by itself says so to nobody.
PLACE_AGAIN_S = 15
MAX_UPLOADS_PER_NODE = 2
UPLOAD_AGAIN_S = 2.0
# Within this time a node's description is as good as new: our own placements are counted anyway.
DESCRIPTION_GOOD_S = 2
# Every key that is published is told to every peer and kept for ever, and a pod has one. Where a
# node makes pods anew time and again, the next key of an instance waits.
KEY_EVERY_S = 10.0
# A person waits for the logs, and the portal for 10 s.
LOGS_LIMIT_S = 8
MAX_LOGS_AT_ONCE = 8
# A whole image may have to be fetched for it.
CHECK_LIMIT_S = 3600
_MAX_CHECKS_AT_ONCE = 4
_MAX_REQUEST_CHARS = 100
_MAX_REFERENCE_CHARS = 400
# 64 KiB of log may become six times that in JSON; a message may be 256 KiB.
_MAX_LOG_CHARS = 64 * 1024
_SAFE_LOG_CHARS = 32 * 1024
_MAX_LOG_MESSAGE_BYTES = 200 * 1024
_LOOK_WHETHER_LOST_S = 2.0
# The code of a Failure that no node sends: there is none to ask any more.
NODE_LOST = "node_lost"
_AGAIN_FIRST_S = 0.5
_AGAIN_LONGEST_S = 15.0


class WorkRunner:
    """Runs the work of instances at their nodes.

    :param apply: writes down an event, as :meth:`Store.apply` does.
    """

    def __init__(self, store: Store, nodes: NodeLinks, apply: Apply) -> None:
        self._store = store
        self._nodes = nodes
        self._apply = apply
        self._placing = asyncio.Lock()
        self._waiting_for_room: set[asyncio.Event] = set()
        self._described: dict[str, NodeDescription] = {}
        self._described_at = float("-inf")
        self._log_slots = asyncio.Semaphore(MAX_LOGS_AT_ONCE)
        self._check_slots = asyncio.Semaphore(_MAX_CHECKS_AT_ONCE)
        # When an instance was given another key, where it had one.
        self._replaced_at: dict[str, float] = {}

    def room_changed(self) -> None:
        """Look for places again, because a node came or an instance went."""
        self._described_at = float("-inf")
        for event in self._waiting_for_room:
            event.set()

    async def run(self, work: Work, instance: Instance, say: Say) -> Event | None:
        """Do the work; return the resulting event, or None if it is stored already."""
        match work:
            case Work.PLACE:
                await self._place(instance, say)
                return None
            case Work.FETCH_IMAGE:
                wanted = EnsureImage(image=instance.image)
                answer = await self._ask(instance, wanted, ImageIsReady, say)
                return _work_failed_event(instance, answer) or ImageReady()
            case Work.START_POD:
                request = StartPod(
                    instance=instance.id,
                    image=instance.image,
                    key_nonce=instance.key_nonce,
                    run=instance.run,
                    kept=instance.ran,
                    key_run=instance.key_run,
                    title=instance.title,
                )
                answer = await self._ask(instance, request, PodRunning, say)
                notice = answer.notice if isinstance(answer, PodRunning) else ""
                return _work_failed_event(instance, answer) or PodStarted(notice)
            case Work.STOP_POD:
                return await self._stop(instance, say)
            case Work.SAVE_POD:
                answer = await self._ask(instance, SavePod(instance=instance.id), PodSaved, say)
                return (
                    _pod_not_there(answer)
                    or _work_failed_event(instance, answer)
                    or lifecycle.PodSaved()
                )
            case Work.AWAIT_UPLOAD:
                return await self._await_turn(instance)
            case Work.UPLOAD_IMAGE:
                upload = UploadImage(instance=instance.id, save=instance.save)
                answer = await self._ask(instance, upload, ImageUploaded, say)
                if isinstance(answer, ImageUploaded):
                    return lifecycle.ImageUploaded(answer.save, answer.digest)
                return _pod_not_there(answer) or _work_failed_event(instance, answer)
            case Work.AWAIT_CONFIRMATION:
                say("Waiting for the portal to confirm the upload", 1.0)
                await asyncio.Event().wait()
                return None
            case Work.REMOVE_POD:
                return await self._remove(instance, say)

    async def checkpoint(self, instance: Instance, say: Say) -> str:
        """Have the node make a checkpoint; an empty text, or why it can't be done."""
        request = CheckpointPod(instance=instance.id, save=instance.checkpoint)
        answer = await self._ask(instance, request, ImageUploaded, say)
        if not isinstance(answer, Failure):
            return ""
        _log.warning("instance %s: no checkpoint: %s (%s)", instance.id, answer.text, answer.code)
        if answer.code == "unknown_kind":
            return f"{instance.node} is of an older release, and has to be upgraded first"
        return answer.text

    async def _place(self, instance: Instance, say: Say) -> None:
        changed = asyncio.Event()
        self._waiting_for_room.add(changed)
        try:
            while True:
                changed.clear()
                async with self._placing:
                    placed = Counter(
                        other.node
                        for other in await self._store.unfinished()
                        if other.node is not None and other.occupies
                    )
                    left = set(instance.left_nodes)
                    _, there = split_kept(instance.image) or ("", "")
                    others = [
                        name
                        for name in self._nodes.names
                        if name not in left and there in ("", name)
                    ]
                    described = await self._descriptions()
                    choice = choose_node(
                        others,
                        {name: described[name] for name in described if name in others},
                        placed,
                        moved=bool(left),
                        wanted=instance.wanted_node,
                    )
                    if isinstance(choice, PlaceOnNode):
                        await self._apply(instance.id, Placed(choice.node))
                        return
                say(choice.info, None)
                try:
                    async with asyncio.timeout(PLACE_AGAIN_S):
                        await changed.wait()
                except TimeoutError:
                    _log.debug("instance %s: still waiting for a machine", instance.id)
        finally:
            self._waiting_for_room.discard(changed)

    async def _descriptions(self) -> dict[str, NodeDescription]:
        now = asyncio.get_running_loop().time()
        if now - self._described_at > DESCRIPTION_GOOD_S:
            self._described = await self._nodes.describe()
            self._described_at = now
        return self._described

    async def _stop(self, instance: Instance, say: Say) -> Event:
        backoff = Backoff(_AGAIN_FIRST_S, _AGAIN_LONGEST_S)
        while True:
            request = StopPod(instance=instance.id)
            answer = await self._ask(instance, request, PodStopped, say)
            if not isinstance(answer, Failure):
                return lifecycle.PodStopped()
            if answer.code == "no_such_pod":
                return lifecycle.PodVanished()
            if answer.code == NODE_LOST:
                return lifecycle.NodeLost(answer.text)
            _log.warning("instance %s: not stopped: %s (%s)", instance.id, answer.text, answer.code)
            if instance.discard_wanted:
                # Removing stops it as well, and goes on trying.
                return lifecycle.PodStopped()
            say(f"{answer.text}; trying again", None)
            await asyncio.sleep(backoff.pause_s())

    async def _remove(self, instance: Instance, say: Say) -> Event:
        backoff = Backoff(_AGAIN_FIRST_S, _AGAIN_LONGEST_S)
        while True:
            request = DiscardPod(instance=instance.id)
            answer = await self._ask(instance, request, PodGone, say)
            if not isinstance(answer, Failure) or answer.code == "no_such_pod":
                return lifecycle.PodGone()
            if answer.code == NODE_LOST:
                return lifecycle.NodeLost(answer.text)
            _log.warning("instance %s: not removed: %s (%s)", instance.id, answer.text, answer.code)
            say(f"{answer.text}; trying again", None)
            await asyncio.sleep(backoff.pause_s())

    async def _await_turn(self, instance: Instance) -> Event:
        """A node's line is shared by few uploads at a time; the others wait."""
        while True:
            uploading = [
                other
                for other in await self._store.unfinished()
                if other.node == instance.node and other.state is State.UPLOADING
            ]
            if len(uploading) < MAX_UPLOADS_PER_NODE:
                return lifecycle.UploadBegun()
            await asyncio.sleep(UPLOAD_AGAIN_S)

    async def _ask(
        self,
        instance: Instance,
        request: NodeRequest,
        last: type[NodeResult],
        say: Say,
    ) -> NodeResult | Failure:
        """Ask until there is an answer: ``last`` if it was done, or why it can't be."""
        backoff = Backoff(_AGAIN_FIRST_S, _AGAIN_LONGEST_S)
        name = instance.node or ""
        while True:
            has_key = False
            try:
                link = self._nodes.link(name)
                async with aclosing(link.ask(request, CALL_SILENCE_S)) as replies:
                    async for reply in replies:
                        match reply:
                            case Progress():
                                say(reply.info, reply.fraction)
                            case PodKey() if has_key:
                                _log.debug("instance %s: %s names more keys", instance.id, name)
                            case PodKey():
                                has_key = True
                                await self._key_made(instance.id, reply)
                            case Failure(code=code) if code in PASSING_CODES:
                                say(f"{reply.text}; trying again", None)
                                break
                            case Failure():
                                return reply
                            case _ if isinstance(reply, last):
                                return reply
                _log.info("instance %s: %s will be asked again", instance.id, name)
            except NodeUnreachable as error:
                _log.info("instance %s: %s", instance.id, error.one_line())
                if why := self._nodes.lost(name):
                    return Failure(code=NODE_LOST, text=why)
                say(f"Waiting for {name} to answer", None)
                await self._wait_for(name)
            await asyncio.sleep(backoff.pause_s())

    async def _key_made(self, instance: str, key: PodKey) -> None:
        """Have it published; not too soon after another one of the same instance."""
        loop = asyncio.get_running_loop()
        replaced_at = self._replaced_at.get(instance, float("-inf"))
        await asyncio.sleep(replaced_at + KEY_EVERY_S - loop.time())
        self._replaced_at.pop(instance, None)
        if await self._store.key_made(instance, key):
            self._replaced_at[instance] = loop.time()

    async def _wait_for(self, node: str) -> None:
        """Until the node is heard, or it is time to see whether it is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_WHETHER_LOST_S):
                await self._nodes.link(node).wait_up()

    async def remove_leftover(self, node: str, instance: str) -> None:
        """Remove the pod of a discarded instance; a later listing finds it again if this fails."""
        request = DiscardPod(instance=instance)
        try:
            answer = await self._nodes.link(node).result(request, PodGone, REMOVE_LIMIT_S)
        except NodeUnreachable as error:
            _log.warning("instance %s: leftover on %s: %s", instance, node, error.one_line())
            return
        if isinstance(answer, Failure):
            _log.warning(
                "instance %s: leftover on %s: %s (%s)", instance, node, answer.text, answer.code
            )
        else:
            _log.info("instance %s: leftover on %s removed", instance, node)

    async def stop_stray(self, node: str, instance: str) -> None:
        """Stop the pod that an earlier node has; a later listing finds it again if this fails."""
        try:
            answer = await self._nodes.link(node).result(
                StopPod(instance=instance), PodStopped, REMOVE_LIMIT_S
            )
        except NodeUnreachable as error:
            _log.warning("instance %s: stray on %s: %s", instance, node, error.one_line())
            return
        if isinstance(answer, Failure):
            said = f"{answer.text} ({answer.code})"
            _log.warning("instance %s: stray on %s: %s", instance, node, said)
        else:
            _log.info("instance %s: it goes on elsewhere, and was stopped on %s", instance, node)

    async def logs(self, request: RequestLogs) -> InstanceLogs:
        """Return the newest lines of an app's log, or why there are none, within 8 s."""
        instance = await self._store.get(request.instance)
        if instance is None or instance.node is None or not instance.pod_asked:
            return _no_logs_answer(request, "There is no log yet")
        if instance.state in FINAL or instance.state is State.DISCARDING:
            return _no_logs_answer(request, "The log was discarded with the instance")
        question = PodLogs(instance=request.instance, lines=request.lines)
        try:
            async with asyncio.timeout(LOGS_LIMIT_S), self._log_slots:
                link = self._nodes.link(instance.node)
                answer = await link.result(question, LogText, QUICK_LIMIT_S)
        except (NodeUnreachable, TimeoutError):
            return _no_logs_answer(request, f"{instance.node} does not answer at the moment")
        if isinstance(answer, Failure):
            return _no_logs_answer(request, answer.text)
        text = answer.text[-_MAX_LOG_CHARS:]
        if len(encode(text)) > _MAX_LOG_MESSAGE_BYTES:
            text = text[-_SAFE_LOG_CHARS:]
        return InstanceLogs(request=request.request, instance=request.instance, text=text)

    async def check_image(self, order: CheckImage) -> ImageChecked:
        """Have the first node that can fetch what a reference means now; or why none can."""
        if len(order.request) > _MAX_REQUEST_CHARS or len(order.reference) > _MAX_REFERENCE_CHARS:
            return ImageChecked(request="", error="this can't be asked for")
        why = "no machine is reached at the moment"
        async with self._check_slots:
            for name in self._nodes.up:
                try:
                    async with asyncio.timeout(CHECK_LIMIT_S):
                        answer = await self._resolve(name, order.reference)
                except (NodeUnreachable, TimeoutError):
                    why = f"{name} did not answer in time"
                    continue
                if isinstance(answer, ImageIsReady):
                    return ImageChecked(request=order.request, image=answer.image)
                why = f"{name}: {answer.text}"
                if answer.code == "unknown_kind":
                    why = f"{name} is of an older release, and has to be upgraded first"
        return ImageChecked(request=order.request, error=why)

    async def _resolve(self, node: str, reference: str) -> ImageIsReady | Failure:
        request = ResolveImage(reference=reference)
        async with aclosing(self._nodes.link(node).ask(request, CALL_SILENCE_S)) as replies:
            async for reply in replies:
                if isinstance(reply, ImageIsReady | Failure):
                    return reply
        raise NodeUnreachable(f"{node} ended a call without an answer")


def _work_failed_event(instance: Instance, answer: NodeResult | Failure) -> WorkFailed | None:
    if not isinstance(answer, Failure):
        return None
    _log.warning("instance %s: %s (%s)", instance.id, answer.text, answer.code)
    gone = answer.code == "no_such_pod" and instance.ran
    return WorkFailed(instance.state, answer.text, answer.log_tail, gone=gone)


def _pod_not_there(answer: NodeResult | Failure) -> lifecycle.PodVanished | None:
    gone = isinstance(answer, Failure) and answer.code == "no_such_pod"
    return lifecycle.PodVanished() if gone else None


def _no_logs_answer(request: RequestLogs, error: str) -> InstanceLogs:
    short = error[: lifecycle.MAX_INFO_CHARS]
    return InstanceLogs(request=request.request, instance=request.instance, error=short)
