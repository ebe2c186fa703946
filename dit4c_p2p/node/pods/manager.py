"""The node's verbs on pods. Each is idempotent and may be cancelled between any two steps.

The labels at the engine say what exists. This module decides what StartPod does; ``reconciler``
does it:

| found                                              | StartPod                             |
|----------------------------------------------------|--------------------------------------|
| infra and app run                                  | add and start missing helpers        |
| app runs without infra                             | stop the app; then as below          |
| never reachable: nothing, parts, went down         | remove the parts, build              |
| reachable once, and went down with infra           | start infra, rules, helpers, app     |
| reachable once, and a new run is asked for         | start infra, rules, helpers, app     |
| app has ended in this run, or was stopped          | fail: its reason                     |
| reachable once, its app's container is gone        | fail: its reason                     |

An app that was reachable keeps its container, which may hold its user's work: it is started again,
never created anew. It is bound to its infra container by id. A restarted infra has a new network
namespace, and nothing else starts before its rules are loaded.

Running helpers are left alone when an upgraded agent takes over; a helper that has to be started
uses the images of the agent that starts it. Infra stays as created for as long as its app is kept.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from weakref import WeakValueDictionary

import msgspec

from dit4c_p2p import __version__
from dit4c_p2p.messages.node import (
    CheckpointPod,
    ImageReady,
    ImageUploaded,
    LogText,
    NodeDescription,
    PodGone,
    PodKey,
    PodList,
    PodRunning,
    PodSaved,
    PodState,
    PodStatus,
    PodStopped,
    Progress,
    StartPod,
    UploadImage,
)
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import (
    FilesFailed,
    NodeFailure,
    NoSuchPod,
    NotListening,
    PodBroken,
    TransientError,
)
from dit4c_p2p.node.network.firewall import EgressPolicy
from dit4c_p2p.node.owner import policy
from dit4c_p2p.node.owner.pause import is_paused
from dit4c_p2p.node.pods import spec
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.engine_steps import gather_all
from dit4c_p2p.node.pods.images import NodeImages
from dit4c_p2p.node.pods.inspector import PodInspector
from dit4c_p2p.node.pods.key_proofs import key_proofs
from dit4c_p2p.node.pods.readiness import ReadinessTracker, wait_until_ready
from dit4c_p2p.node.pods.reconciler import PodReconciler
from dit4c_p2p.node.pods.spec import AppImage, Role
from dit4c_p2p.node.pods.state_dir import instances_with_files
from dit4c_p2p.node.pods.status import Containers
from dit4c_p2p.node.uploads.uploader import Uploader

_log = logging.getLogger(__name__)

# For the ends of all logs in one list, so that it stays below codec.MAX_MESSAGE_BYTES.
_LIST_CHARACTERS = 32 * 1024
MAX_LOG_LINES = 5000

_STOPPED = "it was stopped as asked"


class PodManager:
    """Manager of all pods of one agent; :mod:`dit4c_p2p.node.parts` builds it with its parts."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        *,
        builder: PodBuilder,
        inspector: PodInspector,
        reconciler: PodReconciler,
        images: NodeImages,
        uploads: Uploader,
    ) -> None:
        self._config = config
        self._engine = engine
        self._data_folder = str(config.data_folder)
        self._builder = builder
        self._inspector = inspector
        self._reconciler = reconciler
        self._images = images
        self.uploads = uploads
        # One at a time changes a pod; a lock is forgotten when nobody holds or awaits it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._starting: set[str] = set()
        self.discarding: set[str] = set()

    # ---- verbs

    async def describe(self) -> NodeDescription:
        """Describe the node as its owner offers it, within the machine's resources."""
        info, running = await asyncio.gather(self._engine.info(), self._occupied())
        lent = self._config.policy
        return NodeDescription(
            name=str(self._config.name),
            version=__version__,
            cpus=min(float(info["NCPU"]), lent.cpus * lent.instances),
            memory_bytes=min(int(info["MemTotal"]), lent.memory_bytes * lent.instances),
            pods=len(running),
            max_pods=lent.instances,
            paused=is_paused(self._config.folder),
        )

    def ensure_image(self, image: str) -> AsyncGenerator[Progress | ImageReady, None]:
        """Have an image here; see :meth:`NodeImages.ensure`."""
        return self._images.ensure(image, self._lock)

    def resolve_image(self, reference: str) -> AsyncGenerator[Progress | ImageReady, None]:
        """Have the image of a reference here; see :meth:`NodeImages.resolve`."""
        return self._images.resolve(reference, self._lock)

    async def start(
        self, request: StartPod
    ) -> AsyncGenerator[Progress | PodKey | PodRunning, None]:
        """Have the pod running; the last item is :class:`PodRunning`.

        Given up half-way it leaves parts, which the same request takes up again.

        :raises NodeFailure: it can't be, and nothing of it runs.
        """
        instance = request.instance
        policy.check_instance(instance)
        policy.check_image_by_policy(self._config.policy, request.image)
        folder = self._inspector.folder(instance)
        async with self._lock(instance):
            if is_paused(self._config.folder) and instance not in await self._occupied():
                raise policy.paused()
            image = await self._image(request)
            if request.kept:
                await self.uploads.pods.remove(instance)
            # Claimed before it is counted: of two at once, each sees the other.
            self._starting.add(instance)
            try:
                policy.check_room_by_policy(self._config.policy, instance, await self._occupied())
                if request.key_run > folder.key_run:
                    # First, so that none goes on with the key of before.
                    await self._builder.remove_helpers(instance)
                    folder.replace_key(request.key_run)
                key = folder.key()
                yield key_proofs(self._config, instance, key, request.key_nonce)
                yield Progress(info=await self._what_starts(request), fraction=0.2)
                kept = image.volumes_of
                async with self._lock(kept) if kept else nullcontext():
                    containers = await self._stand(instance, image, request)
            finally:
                self._starting.discard(instance)
        arrival = ReadinessTracker(
            image.port,
            answers_s=self._config.pods.answers_s,
            publish_s=self._config.limits.publish_s,
            since=time.monotonic(),
        )
        try:
            async with aclosing(wait_until_ready(self._engine, containers, arrival)) as said:
                async for progress in said:
                    yield progress
        except (NotListening, PodBroken) as failure:
            async with self._lock(instance):
                if await self._builder.look(instance):
                    failure.log_tail = await self._inspector.tail(containers)
                    await self._inspector.give_up(instance, str(failure))
            raise
        async with self._lock(instance):
            found = await self._builder.look(instance)
            if not arrival.published or Role.APP not in found:
                raise await self._inspector.ended(instance)
            folder.set_published()
        _log.info("pod of %s: reachable", instance)
        yield PodRunning(instance=instance, notice=folder.notice)

    async def stop(self, instance: str) -> PodStopped:
        """Stop the pod's containers and keep them, and the machine's restart does not undo it.

        :raises NoSuchPod: nothing of it is here.
        """
        policy.check_instance(instance)
        async with self._lock(instance):
            found = await self._builder.look(instance)
            if not found:
                raise NoSuchPod(f"there is no pod of {instance} on this node")
            now = await self._inspector.read(instance, found)
            if now.state is not PodState.EXITED:
                self._inspector.folder(instance).set_reason(_STOPPED)
            if any(state.running for state in found.values()):
                told = await self._builder.stop(instance, self._config.stop_grace_s)
                if told:
                    self._inspector.folder(instance).set_reason(f"{_STOPPED}; {told}")
                _log.info("pod of %s: stopped", instance)
        return PodStopped(instance=instance)

    async def save(self, instance: str) -> PodSaved:
        """Have the app stopped, so that its files can be uploaded.

        :raises NoSuchPod: it has no container here.
        :raises NotSaved: that can't be done on this machine, or it has too many files.
        """
        policy.check_instance(instance)
        self.uploads.image_server()
        if Role.APP not in await self._builder.look(instance):
            raise NoSuchPod(f"there is no app of {instance} on this node")
        await self.stop(instance)
        return PodSaved(instance=instance, bytes=await self.uploads.measure(instance))

    def upload(self, request: UploadImage) -> AsyncGenerator[Progress | ImageUploaded, None]:
        """Upload a stopped app's files; see :meth:`Uploader.upload`."""
        policy.check_instance(request.instance)
        return self.uploads.upload(request, self._lock(request.instance))

    def checkpoint(self, request: CheckpointPod) -> AsyncGenerator[Progress | ImageUploaded, None]:
        """Upload a running app's files; see :meth:`Uploader.checkpoint`."""
        policy.check_instance(request.instance)
        self.uploads.image_server()
        return self.uploads.checkpoint(request, self._lock(request.instance))

    async def discard(self, instance: str) -> PodGone:
        """Remove everything of the pod, the key last; fine if there is nothing."""
        policy.check_instance(instance)
        self.discarding.add(instance)
        try:
            async with self._lock(instance):
                await self.uploads.pods.remove(instance)
                await self._builder.remove(instance)
                self._inspector.folder(instance).remove()
        finally:
            self.discarding.discard(instance)
        _log.info("pod of %s: gone", instance)
        return PodGone(instance=instance)

    async def list(self) -> PodList:
        """List the pods that exist here, including incomplete ones."""
        known = await self._builder.instances()
        known |= await asyncio.to_thread(instances_with_files, self._config.folder)
        found = await asyncio.gather(*(self.status(instance) for instance in sorted(known)))
        tail = _LIST_CHARACTERS // max(1, len(found))
        return PodList(
            pods=[
                msgspec.structs.replace(one, log_tail=one.log_tail[-tail:])
                for one in found
                if one is not None
            ]
        )

    async def logs(self, instance: str, lines: int) -> LogText:
        """Return the newest lines of the app's log.

        :raises NoSuchPod: its app has no container here.
        """
        policy.check_instance(instance)
        found = await self._builder.look(instance)
        if Role.APP not in found:
            raise NoSuchPod(f"there is no app of {instance} on this node")
        wanted = max(1, min(lines, MAX_LOG_LINES))
        return LogText(text=await self._engine.log_tail(found[Role.APP].id, wanted))

    # ---- for who follows the engine's events

    @property
    def memory_bytes(self) -> int:
        """The memory limit of one app, in bytes."""
        return self._config.policy.memory_bytes

    async def status(self, instance: str) -> PodStatus | None:
        """One pod's status; None when nothing of it is left, not even its key."""
        return await self._inspector.status(instance)

    async def finish_exit(self, instance: str) -> PodStatus | None:
        """An app has ended: if it did so by itself, its pod stays down, and gives back its memory.

        Returns the pod's status.
        """
        async with self._lock(instance):
            now = await self._inspector.settled(instance)
            if now is not None and now.state is PodState.EXITED:
                found = await self._builder.look(instance)
                if any(state.running for state in found.values()):
                    await self._inspector.give_up(instance, now.reason)
            return now

    async def resume(self, instance: str) -> None:
        """Start a pod again that went down with its machine, its engine or its infra container.

        :raises NodeFailure: it can't be. Unless that is :class:`TransientError`, it is written down
            and the pod stays down.
        """
        async with self._lock(instance):
            found = await self._builder.look(instance)
            now = await self._inspector.read(instance, found)
            if now.state is not PodState.INTERRUPTED or Role.APP not in found:
                return
            folder = self._inspector.folder(instance)
            self._starting.add(instance)
            try:
                policy.check_room_by_policy(self._config.policy, instance, await self._occupied())
                image = await self._reconciler.kept_image(found[Role.APP])
                await self._reconciler.converge(instance, image, folder.run.number, kept=True)
            except TransientError:
                raise
            except NodeFailure as failure:
                await self._inspector.give_up(instance, failure.one_line())
                raise
            finally:
                self._starting.discard(instance)
        _log.warning("pod of %s: had gone down, started again", instance)

    async def restart_helper(self, instance: str, role: Role) -> bool:
        """Start a helper again that has ended, if its pod is to run; whether all is settled.

        False: the pod is still being made, look again.
        """
        async with self._lock(instance):
            found = await self._builder.look(instance)
            app, infra, helper = (found.get(one) for one in (Role.APP, Role.INFRA, role))
            if app is None or infra is None or app.ended:
                return True
            # One that could not be made is tried again.
            wanted = helper is not None or (role is Role.STORAGE and app.has_files)
            if not wanted or (helper is not None and helper.running):
                return True
            if not app.started:
                return False
            if not infra.running:
                await self._inspector.stop_without_infra(instance)
                return True
            await self._reconciler.complete(instance, found)
            _log.warning("pod of %s: %s had ended, started again", instance, role)
            return True

    async def remove_left_mounter(self, instance: str) -> None:
        """Remove what an agent that was killed while it mounted files has left."""
        async with self._lock(instance):
            await self._builder.files.remove_left_mounter(instance)

    async def infra_ended(self, instance: str) -> None:
        """The holder of a pod's namespace has ended: the app can't stay without its firewall."""
        async with self._lock(instance):
            found = await self._builder.look(instance)
            app, infra = found.get(Role.APP), found.get(Role.INFRA)
            if app is not None and app.running and (infra is None or not infra.running):
                await self._inspector.stop_without_infra(instance)

    # ---- for who measures what apps write, and who follows the machine's network

    async def end(self, instance: str, reason: str) -> None:
        """Stop a pod that runs, for a reason that its user is told; its containers stay.

        :raises FilesFailed: that can't be written down, and it may be started again.
        """
        async with self._lock(instance):
            now = await self._inspector.status(instance)
            if now is None or now.state is not PodState.RUNNING:
                return
            _log.warning("pod of %s: %s", instance, reason)
            try:
                await self._inspector.give_up(instance, reason)
            except FilesFailed:
                # A full disk may be its doing: all the more it must not run on.
                await self._builder.stop(instance, self._config.stop_grace_s)
                raise

    async def renew_rules(self, reach: EgressPolicy) -> None:
        """Have the rules of every running pod be those for ``reach``.

        :raises Passing: that may have failed for one; the others have them.
        """
        instances = await self._builder.instances() | self._starting
        await gather_all(*(self._renew_rules(instance, reach) for instance in instances))

    async def _renew_rules(self, instance: str, reach: EgressPolicy) -> None:
        if instance in self._starting:
            # It may be about to load rules of before.
            async with self._lock(instance):
                pass
        infra = (await self._builder.look(instance)).get(Role.INFRA)
        if infra is None or not infra.running:
            return
        try:
            await self._builder.renew(infra, reach)
        except PodBroken as failure:
            await self.end(instance, failure.one_line())

    # ---- beneath

    async def _image(self, request: StartPod) -> AppImage:
        """What the image declares; a kept app's container says it itself.

        :raises UnknownImage, NoPort: it has to be here, and is not, or can't be served.
        """
        if self._inspector.folder(request.instance).published:
            app = (await self._builder.look(request.instance)).get(Role.APP)
            if app is not None:
                return await self._reconciler.kept_image(app)
        return await self._reconciler.image(request.image)

    async def _what_starts(self, request: StartPod) -> str:
        """A sentence for the instance's user."""
        if self._inspector.folder(request.instance).published:
            now = await self._inspector.status(request.instance)
            if now is not None and now.state is PodState.INTERRUPTED and now.run == request.run:
                return "The machine it runs on went down; starting the app again, with its files"
            return "Starting the app again, with its files"
        return "Creating its network and firewall"

    async def _stand(self, instance: str, image: AppImage, request: StartPod) -> Containers:
        """Have the pod stand. One that can't is down for good, unless it may pass."""
        try:
            return await self._reconciler.converge(
                instance, image, request.run, kept=request.kept, title=request.title
            )
        except TransientError:
            raise
        except NodeFailure as failure:
            now = await self._inspector.status(instance)
            if now is not None and now.state is PodState.INTERRUPTED:
                await self._inspector.give_up(instance, failure.one_line())
            raise

    def _lock(self, instance: str) -> asyncio.Lock:
        return self._locks.setdefault(instance, asyncio.Lock())

    async def _occupied(self) -> set[str]:
        """Instances whose app runs, or is about to."""
        listed = await self._engine.containers(self._data_folder)
        running = {
            item["Labels"][spec.LABEL_INSTANCE]
            for item in listed
            if item["Labels"].get(spec.LABEL_ROLE) == Role.APP and item["State"] != "exited"
        }
        return running | self._starting
