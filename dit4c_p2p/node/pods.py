"""The verbs on pods, each idempotent and safe to cut off between any two of its steps.

What exists is read from the labels at the engine; what it means for a verb is decided here:

| found                                             | StartPod                          |
|---------------------------------------------------|-----------------------------------|
| nothing, or parts whose app never started         | remove the parts, build           |
| infra and app run                                 | add and start missing helpers     |
| app ended, infra runs                             | fail: the app's own reason        |
| infra is gone, the instance was never reachable   | remove the parts, build           |
| infra is gone, the instance was reachable once    | stop the rest, fail: its reason   |

The last line keeps an app's files, which may be a user's work: a restarted ``infra`` would have a
new network namespace that the others can't join, so such a pod has exited and waits for what its
user decides.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from weakref import WeakValueDictionary

import asyncssh
import msgspec

from dit4c_p2p import __version__
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import fingerprint, public_line
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.link import INSTANCE_KEY_NAMESPACE, key_statement
from dit4c_p2p.messages.node import (
    ImageReady,
    LogText,
    NodeDescription,
    PodGone,
    PodKey,
    PodList,
    PodRunning,
    PodState,
    PodStatus,
    PodStopped,
    Progress,
    StartPod,
)
from dit4c_p2p.messages.pod import PodConfig
from dit4c_p2p.node import host, pod, policy, status
from dit4c_p2p.node.assembly import Assembly
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine import Engine
from dit4c_p2p.node.failures import (
    AppExited,
    Conflict,
    EngineError,
    NodeFailure,
    NoSuchPod,
    NotFound,
    NotListening,
    OutOfMemory,
    PodBroken,
    UnknownImage,
)
from dit4c_p2p.node.firewall import ruleset
from dit4c_p2p.node.folder import InstanceFolder, instances_kept
from dit4c_p2p.node.pod import AppImage, PodSpec, Role
from dit4c_p2p.node.reach import reach_of, resolvers_for_pods
from dit4c_p2p.node.status import Containers
from dit4c_p2p.node.watch import Arrival, watch

_log = logging.getLogger(__name__)

_BUILD_TRIES = 3
# Enough to see why a program ended; a status is sent often.
_TAIL_LINES = 40
_TAIL_CHARACTERS = 8 * 1024
# For the ends of all logs in one list, so that it stays below codec.MAX_MESSAGE_BYTES.
_LIST_CHARACTERS = 32 * 1024
MAX_LOG_LINES = 5000

_STOPPED = "it was stopped as asked"
_LOST = "the pod's network was lost (its infra container ended), so the app was stopped"


class Pods:
    """All pods of one agent.

    :param host_now: reads the machine's networks; called for each pod.
    :param gone: told of an instance when nothing of it is left.
    """

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        *,
        host_now: Callable[[], host.HostNetwork] = host.read,
        gone: Callable[[str], None] = lambda instance: None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._host_now = host_now
        self.gone = gone
        self._data_folder = str(config.data_folder)
        self._assembly = Assembly(
            engine, self._data_folder, config.network_range, host_now, config.limits.firewall_s
        )
        # One at a time changes a pod; a lock is forgotten when nobody holds or awaits it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._starting: set[str] = set()
        self.discarding: set[str] = set()

    # ---- verbs

    async def describe(self) -> NodeDescription:
        """The node as its owner offers it: for all pods together, within what the machine has."""
        info, running = await asyncio.gather(self._engine.info(), self._occupied())
        lent = self._config.policy
        return NodeDescription(
            name=str(self._config.name),
            version=__version__,
            cpus=min(float(info["NCPU"]), lent.cpus_per_pod * lent.max_pods),
            memory_bytes=min(int(info["MemTotal"]), lent.memory_bytes_per_pod * lent.max_pods),
            pods=len(running),
            max_pods=lent.max_pods,
        )

    async def ensure_image(self, image: str) -> ImageReady:
        """The image is here and can be served.

        :raises PolicyRefused, UnknownImage, NoPort: it can't run on this node.
        """
        policy.check_image(self._config.policy, image)
        return ImageReady(image=image, port=(await self._image(image)).port)

    async def start(
        self, request: StartPod
    ) -> AsyncGenerator[Progress | PodKey | PodRunning, None]:
        """Have the pod running; the last item is :class:`PodRunning`.

        Given up half-way it leaves parts, which the same request takes up again.

        :raises NodeFailure: it can't be; what runs of it has been stopped, and is kept.
        """
        instance = request.instance
        policy.check_instance(instance)
        policy.check_image(self._config.policy, request.image)
        folder = self._folder(instance)
        async with self._lock(instance):
            image = await self._image(request.image)
            # Claimed before it is counted: of two at once, each sees the other.
            self._starting.add(instance)
            try:
                policy.check_room(self._config.policy, instance, await self._occupied())
                key = folder.key()
                yield self._proofs(instance, key, request.key_nonce)
                yield Progress(info="Making the pod's network and firewall", fraction=0.2)
                containers = await self._converge(instance, image, key)
            finally:
                self._starting.discard(instance)
        arrival = Arrival(image.port, self._config.limits, time.monotonic())
        try:
            async with aclosing(watch(self._engine, containers, arrival)) as said:
                async for progress in said:
                    yield progress
        except (NotListening, PodBroken) as failure:
            async with self._lock(instance):
                if await self._assembly.look(instance):
                    failure.log_tail = await self._tail(containers)
                    await self._give_up(instance, str(failure))
            raise
        async with self._lock(instance):
            found = await self._assembly.look(instance)
            if not arrival.published or Role.APP not in found:
                raise await self._ended(instance)
            folder.set_published()
        _log.info("pod of %s: reachable", instance)
        yield PodRunning(instance=instance)

    async def stop(self, instance: str) -> PodStopped:
        """Stop the pod's containers and keep them.

        :raises NoSuchPod: nothing of it is here.
        """
        policy.check_instance(instance)
        async with self._lock(instance):
            found = await self._assembly.look(instance)
            if not found:
                raise NoSuchPod(f"there is no pod of {instance} on this node")
            if any(state.running for state in found.values()):
                if Role.APP in found and found[Role.APP].running:
                    self._folder(instance).set_reason(_STOPPED)
                await self._assembly.stop(instance, self._config.limits.stop_grace_s)
                _log.info("pod of %s: stopped", instance)
        return PodStopped(instance=instance)

    async def discard(self, instance: str) -> PodGone:
        """Remove everything of the pod, the key last; fine if there is nothing."""
        policy.check_instance(instance)
        self.discarding.add(instance)
        try:
            async with self._lock(instance):
                await self._assembly.remove(instance)
                self._folder(instance).remove()
        finally:
            self.discarding.discard(instance)
        _log.info("pod of %s: gone", instance)
        self.gone(instance)
        return PodGone(instance=instance)

    async def list(self) -> PodList:
        """The truth about what exists here, parts of pods included."""
        known = await self._assembly.instances()
        known |= await asyncio.to_thread(instances_kept, self._config.folder)
        found = await asyncio.gather(*(self.status(instance) for instance in sorted(known)))
        tail = min(_TAIL_CHARACTERS, _LIST_CHARACTERS // max(1, len(found)))
        return PodList(
            pods=[
                msgspec.structs.replace(one, log_tail=one.log_tail[-tail:])
                for one in found
                if one is not None
            ]
        )

    async def logs(self, instance: str, lines: int) -> LogText:
        """The newest lines of the app's log.

        :raises NoSuchPod: its app has no container here.
        """
        policy.check_instance(instance)
        found = await self._assembly.look(instance)
        if Role.APP not in found:
            raise NoSuchPod(f"there is no app of {instance} on this node")
        wanted = max(1, min(lines, MAX_LOG_LINES))
        return LogText(text=await self._engine.log_tail(found[Role.APP].id, wanted))

    # ---- for who follows the engine's events

    @property
    def memory_bytes(self) -> int:
        """What one app may use."""
        return self._config.policy.memory_bytes_per_pod

    async def status(self, instance: str) -> PodStatus | None:
        """One pod's status; None when nothing of it is left, not even its key."""
        folder = self._folder(instance)
        found = await self._assembly.look(instance)
        if not found and instance not in (
            await self._assembly.instances() | instances_kept(self._config.folder)
        ):
            return None
        app = found.get(Role.APP)
        tail = await self._tail(found) if app is not None and app.ended else ""
        return status.status_of(
            instance, found, note=folder.reason, published=folder.published, log_tail=tail
        )

    async def mend(self, instance: str, role: Role) -> bool:
        """Start a helper again that has ended, if its pod is to run; whether all is settled.

        False: the pod is still being made, look again.
        """
        async with self._lock(instance):
            found = await self._assembly.look(instance)
            app, infra, helper = (found.get(one) for one in (Role.APP, Role.INFRA, role))
            if app is None or infra is None or helper is None or helper.running or app.ended:
                return True
            if not app.started:
                return False
            if not infra.running:
                await self._lose(instance)
                return True
            await self._engine.start_container(helper.id)
            _log.warning("pod of %s: %s had ended, started again", instance, role)
            return True

    async def infra_ended(self, instance: str) -> None:
        """The holder of a pod's namespace has ended: the app can't stay without its firewall."""
        async with self._lock(instance):
            found = await self._assembly.look(instance)
            app, infra = found.get(Role.APP), found.get(Role.INFRA)
            if app is not None and app.running and (infra is None or not infra.running):
                await self._lose(instance)

    # ---- beneath

    def _lock(self, instance: str) -> asyncio.Lock:
        return self._locks.setdefault(instance, asyncio.Lock())

    def _folder(self, instance: str) -> InstanceFolder:
        return InstanceFolder(self._config.folder, instance)

    async def _image(self, image: str) -> AppImage:
        try:
            return pod.read_image(await self._engine.image(image))
        except NotFound:
            raise UnknownImage(
                f"the image {image[:19]}… is not on this node", hint="ask its owner to load it"
            ) from None

    async def _occupied(self) -> set[str]:
        """Instances whose app runs, or is about to."""
        listed = await self._engine.containers(self._data_folder)
        running = {
            item["Labels"][pod.LABEL_INSTANCE]
            for item in listed
            if item["Labels"].get(pod.LABEL_ROLE) == Role.APP and item["State"] != "exited"
        }
        return running | self._starting

    def _proofs(self, instance: str, key: asyncssh.SSHKey, nonce: str) -> PodKey:
        statement = key_statement(instance, str(self._config.name), fingerprint(key), nonce)
        return PodKey(
            public_key=public_line(key),
            instance_signature=sshsig.sign(key, statement, INSTANCE_KEY_NAMESPACE),
            node_signature=sshsig.sign(self._config.key, statement, INSTANCE_KEY_NAMESPACE),
        )

    async def _converge(self, instance: str, image: AppImage, key: asyncssh.SSHKey) -> Containers:
        """From whatever there is to a pod whose four containers were started; see the table."""
        folder = self._folder(instance)
        files = self._files(instance, image, key)
        for _ in range(_BUILD_TRIES):
            found = await self._assembly.look(instance)
            app, infra = found.get(Role.APP), found.get(Role.INFRA)
            stands = infra is not None and infra.running
            spec = await self._spec(instance, image)
            if app is not None and app.running and stands:
                await self._assembly.complete(spec, files, found)
                return await self._assembly.look(instance)
            if folder.published or (app is not None and app.ended and stands):
                if app is not None and app.running:
                    await self._lose(instance)
                raise await self._ended(instance)
            try:
                await self._assembly.remove(instance)
                folder.set_reason("")
                await self._assembly.build(spec, files)
            except Conflict as error:
                # What an earlier call, cut off on our side, still made.
                _log.warning("pod of %s: made anew: %s", instance, error.one_line())
                continue
            return await self._assembly.look(instance)
        raise EngineError(f"the pod of {instance} can't be made: its names are in use")

    async def _spec(self, instance: str, image: AppImage) -> PodSpec:
        machine = self._host_now()
        reach = await reach_of(self._config, machine)
        return PodSpec(
            instance=instance,
            data_folder=self._data_folder,
            image=image,
            helpers=self._config.images,
            policy=self._config.policy,
            machine_cpus=int((await self._engine.info())["NCPU"]),
            rules=ruleset(reach),
            resolvers=resolvers_for_pods(self._config, machine),
        )

    def _files(self, instance: str, image: AppImage, key: asyncssh.SSHKey) -> dict[str, bytes]:
        told = PodConfig(
            instance=str(PeerName(Kind.INSTANCE, instance)),
            url=self._config.url_of(instance),
            app_port=image.port,
            portal=self._config.portal_for_pods(),
            routers=list(self._config.routers_for_pods()),
        )
        return {"config.json": encode(told), "key": key.export_private_key("openssh")}

    async def _tail(self, containers: Containers) -> str:
        if Role.APP not in containers:
            return ""
        text = await self._engine.log_tail(containers[Role.APP].id, _TAIL_LINES)
        return text[-_TAIL_CHARACTERS:]

    async def _ended(self, instance: str) -> NodeFailure:
        """Why a starting pod's app does not run any more; what is left of the pod is stopped."""
        now = await self.status(instance)
        if now is None or now.state is not PodState.EXITED:
            return NoSuchPod(f"the pod of {instance} was removed while it started")
        found = await self._assembly.look(instance)
        await self._give_up(instance, now.reason)
        memory = Role.APP in found and found[Role.APP].out_of_memory
        kind = OutOfMemory if memory else AppExited
        return kind(now.reason, log_tail=now.log_tail)

    async def _give_up(self, instance: str, reason: str) -> None:
        """Stop what runs of a pod that failed to start, and remember why."""
        self._folder(instance).set_reason(reason)
        await self._assembly.stop(instance, self._config.limits.stop_grace_s)

    async def _lose(self, instance: str) -> None:
        _log.error("pod of %s: its infra container ended", instance)
        await self._give_up(instance, _LOST)
