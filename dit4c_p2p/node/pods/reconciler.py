"""Reconciliation of a pod: from any existing parts to a pod with all containers started."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import asyncssh

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.node import PodState
from dit4c_p2p.messages.pod import PodConfig
from dit4c_p2p.messages.saved_images import split_saved
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import (
    Conflict,
    EngineError,
    NodeFailure,
    NoSuchPod,
    NotFound,
    UnknownImage,
)
from dit4c_p2p.node.network import host_network
from dit4c_p2p.node.network.egress import ServiceAddresses, egress_policy, resolvers_for_pods
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.inspector import PodInspector
from dit4c_p2p.node.pods.spec import AppImage, PodSpec, Role
from dit4c_p2p.node.pods.state_dir import AppRun
from dit4c_p2p.node.pods.status import UNCLEAR_S, Containers, ContainerState
from dit4c_p2p.node.saved_images.table import ImageTable

_log = logging.getLogger(__name__)

_BUILD_TRIES = 4
_AGAIN = "The machine it runs on went down; the app was started again, with its files"


class PodReconciler:
    """Creates and completes the pods of one agent. The caller holds the pod's lock.

    :param host_now: reads the machine's networks; called for each pod.
    :param table: what saved images are called at the engine.
    """

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        builder: PodBuilder,
        inspector: PodInspector,
        services: ServiceAddresses,
        host_now: Callable[[], host_network.HostNetwork],
        table: ImageTable,
    ) -> None:
        self._config = config
        self._engine = engine
        self._builder = builder
        self._inspector = inspector
        self._services = services
        self._host_now = host_now
        self._table = table

    async def image(self, image: str) -> AppImage:
        """What an image that is here declares.

        :raises UnknownImage: it is not here.
        :raises NoPort: it declares no TCP port.
        """
        kept, _ = split_kept(image) or ("", "")
        try:
            found = pod.read_image(await self._engine.image(self._at_engine(image)))
            return replace(found, volumes_of=kept)
        except NotFound:
            raise UnknownImage(
                f"the image {pod.short_image(image)} is not on this node",
                hint="ask its owner to load it",
            ) from None

    async def kept_image(self, app: ContainerState) -> AppImage:
        """What a kept app's image declares, which may have been removed: its container has it."""
        if app.app_port:
            return AppImage(app.image, app.app_port, ())
        return await self.image(app.image)

    def _at_engine(self, image: str) -> str:
        """What the engine calls an image: a saved one has an id of the engine's."""
        if split_saved(image) is None and split_kept(image) is None:
            return image
        known = self._table.get(image.rpartition("@")[2])
        if known is None:
            raise UnknownImage("the saved image is not on this node")
        return known.image

    async def converge(
        self, instance: str, image: AppImage, run: int, *, kept: bool = False, title: str = ""
    ) -> Containers:
        """Have the pod stand in the run of that number.

        :param kept: the app's container has to be there already.
        :param title: what its user calls it; a new app's container is told.
        :raises NodeFailure: it can't, or its app has ended in this run.
        """
        folder = self._inspector.folder(instance)
        files = self.files_of(instance, image, folder.key())
        spec = await self.spec_of(instance, image, title)
        for _ in range(_BUILD_TRIES):
            found = await self._builder.look(instance)
            app, infra = found.get(Role.APP), found.get(Role.INFRA)
            if kept and app is None:
                raise NoSuchPod("its container, with its files, is gone from the machine it ran on")
            if app is not None and app.running:
                if infra is None or not infra.running:
                    await self._inspector.stop_without_infra(instance)
                    continue
                if run > folder.run.number:
                    folder.begin(AppRun(run, folder.run.before))
                await self._builder.complete(spec, files, found)
                return await self._builder.look(instance)
            if run > folder.run.number:
                folder.begin(AppRun(run, app.started_at if app is not None else ""))
            now = await self._inspector.read(instance, found)
            if now.state is PodState.EXITED:
                raise await self._inspector.ended(instance)
            try:
                if now.state is PodState.INTERRUPTED:
                    # The app starts in this run at most once: it goes on from here after a crash.
                    started_at = app.started_at if app is not None else ""
                    if started_at != folder.run.before:
                        folder.begin(AppRun(folder.run.number, started_at))
                        folder.set_notice(_AGAIN)
                    await self._resume(spec, files, found)
                elif app is not None and app.ended and infra is not None and infra.running:
                    # Not clear yet whether the whole pod goes down.
                    await asyncio.sleep(UNCLEAR_S)
                    continue
                else:
                    await self._builder.remove(instance)
                    folder.set_reason("")
                    notice = await self._builder.build(spec, files)
                    if notice:
                        folder.set_notice(notice)
            except Conflict as error:
                # What an earlier call, cut off on our side, still made.
                _log.warning("pod of %s: made anew: %s", instance, error.one_line())
                continue
            return await self._builder.look(instance)
        raise EngineError(f"the pod of {instance} can't be made: its names are in use")

    async def _resume(self, spec: PodSpec, files: dict[str, bytes], containers: Containers) -> None:
        """Start a kept app again. If that fails, what ran of it for a moment was no run."""
        try:
            grace_s = self._config.stop_grace_s
            trouble = await self._builder.resume(spec, files, containers, grace_s)
            if trouble:
                self._inspector.folder(spec.instance).set_notice(trouble)
        except NodeFailure:
            folder = self._inspector.folder(spec.instance)
            run, notice = folder.run, folder.notice
            app = (await self._builder.look(spec.instance)).get(Role.APP)
            if app is not None and not app.running and app.started_at != run.before:
                folder.begin(AppRun(run.number, app.started_at))
                folder.set_notice(notice)
            raise

    async def complete(self, instance: str, found: Containers) -> None:
        """Start the helpers that a standing pod lacks."""
        image = await self.kept_image(found[Role.APP])
        key = self._inspector.folder(instance).key()
        spec = await self.spec_of(instance, image)
        await self._builder.complete(spec, self.files_of(instance, image, key), found)

    async def spec_of(self, instance: str, image: AppImage, title: str = "") -> PodSpec:
        """Everything a pod's definitions are made of, as it is now."""
        machine = self._host_now()
        await self._services.look_up()
        return PodSpec(
            instance=instance,
            data_folder=str(self._config.data_folder),
            image=image,
            title=title,
            portal_url=self._config.portal_for_pods().url,
            helpers=self._config.images,
            files=bool(self._config.images.storage and self._config.fileservers_for_pods()),
            policy=self._config.policy,
            machine_cpus=int((await self._engine.info())["NCPU"]),
            reach=egress_policy(
                self._config, machine, self._services.addresses, self._services.own.addresses
            ),
            resolvers=resolvers_for_pods(self._config, machine),
        )

    def files_of(self, instance: str, image: AppImage, key: asyncssh.SSHKey) -> dict[str, bytes]:
        """What the pod's helpers are given."""
        told = PodConfig(
            instance=str(PeerName(Kind.INSTANCE, instance)),
            url=self._config.url_of(instance),
            app_port=image.port,
            portal=self._config.portal_for_pods(),
            routers=list(self._config.routers_for_pods()),
            ca=self._config.ca,
            silence_s=self._config.pods.silence_s,
            files_wait_s=self._config.pods.files_wait_s,
            fileservers=list(self._config.fileservers_for_pods()),
        )
        return {"config.json": encode(told), "key": key.export_private_key("openssh")}
