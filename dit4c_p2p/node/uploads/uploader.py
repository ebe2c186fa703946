"""Runs upload pods: one for each instance that is being saved, until its image is uploaded.

What exists is read from the labels at the engine. A helper that runs is followed, one that has done
its work has its word taken, and anything else is made anew: so each verb may be cut off anywhere
and asked for again, also of another agent.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
from dit4c_p2p.messages.node import CheckpointPod, ImageUploaded, Progress, UploadImage
from dit4c_p2p.messages.pod import POD_FOLDER
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.messages.upload import (
    EXIT_DONE,
    EXIT_NEEDS_LAYERS,
    PLAN_FILE,
    UploadDone,
    UploadFailed,
    UploadLine,
    UploadPlan,
    UploadProgress,
)
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.image_transfer import ImageTransfer
from dit4c_p2p.node.errors import EngineError, NoSuchPod, NotFound, NotSaved
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.engine_steps import gather_all
from dit4c_p2p.node.pods.inspector import PodInspector
from dit4c_p2p.node.pods.reconciler import PodReconciler
from dit4c_p2p.node.pods.spec import PodSpec, Role
from dit4c_p2p.node.pods.status import ContainerState, memory_text
from dit4c_p2p.node.saved_images.table import ImageTable
from dit4c_p2p.node.uploads import spec
from dit4c_p2p.node.uploads.copies import READY_LINE, AppPauser, CopyMaker
from dit4c_p2p.node.uploads.plan import has_layer_folder, layer_folder, layers_of, upload_plan
from dit4c_p2p.node.uploads.pods import COMMITTED, UploadPods, role_of
from dit4c_p2p.oci.manifest import MAX_IMAGE_BYTES

_log = logging.getLogger(__name__)

_ROUNDS = 4
# An engine takes some 125 layers; above that the app's whole file system becomes one.
MAX_LAYERS_BELOW = 110
_READY_S = 60.0
_GRACE_S = 2
# Codes of UploadFailed that may be otherwise in a while.
_PASSING = frozenset({"scan_broken", "archive_broken", "image_server_away", "upload_interrupted"})


class CopyLost(EngineError):
    """A checkpoint's copy was made, and is not there any more."""


class Uploader:
    """The upload pods of one agent."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        builder: PodBuilder,
        reconciler: PodReconciler,
        inspector: PodInspector,
        table: ImageTable,
    ) -> None:
        self._config = config
        self._engine = engine
        self._transfer = ImageTransfer(engine)
        self._builder = builder
        self._reconciler = reconciler
        self._inspector = inspector
        self._table = table
        self.pods = UploadPods(engine, str(config.data_folder))
        self.pauser = AppPauser(engine, str(config.data_folder))
        self._copies = CopyMaker(engine, self.pauser)

    def image_server(self) -> ImageServerInfo:
        """The image server, as pods reach it.

        :raises NotSaved: there is none, or no image of the helper's.
        """
        server = self._config.image_server_for_pods()
        if server is None or not self._config.images.upload:
            raise NotSaved(
                "this machine knows of no image server", hint="its owner can set [imageserver]"
            )
        return server

    async def measure(self, instance: str) -> int:
        """How many bytes an app has written beside its volumes.

        :raises NotSaved: more than an image may have.
        """
        listed = await self._engine.containers(str(self._config.data_folder), instance, sizes=True)
        size = sum(
            int(one.get("SizeRw") or 0)
            for one in listed
            if one["Labels"].get(pod.LABEL_ROLE) == Role.APP
        )
        if size > MAX_IMAGE_BYTES:
            raise NotSaved(f"it has more than {memory_text(MAX_IMAGE_BYTES)} of files of its own")
        return size

    async def checkpoint(
        self, request: CheckpointPod, lock: asyncio.Lock
    ) -> AsyncGenerator[Progress | ImageUploaded, None]:
        """Upload an app's files as they are while it runs; the last item is
        :class:`ImageUploaded`. See :meth:`upload`.
        """
        for again in (True, False):
            if not await self._helper_of(request):
                async with aclosing(self._copy(request, lock)) as copied:
                    async for progress in copied:
                        yield progress
            try:
                async with aclosing(self.upload(request, lock)) as uploaded:
                    async for item in uploaded:
                        yield item
            except CopyLost:
                if not again:
                    raise
                _log.warning("pod of %s: its copy is lost, another is made", request.instance)
            else:
                return

    async def upload(
        self, request: UploadImage | CheckpointPod, lock: asyncio.Lock
    ) -> AsyncGenerator[Progress | ImageUploaded, None]:
        """Upload a stopped app's files; the last item is :class:`ImageUploaded`.

        :param lock: the pod's; held while the upload pod is put together.
        :raises NoSuchPod: there is no such app here.
        :raises NotSaved: it can't be done.
        :raises TransientError: asked again it may go well.
        """
        instance, done = request.instance, None
        for _ in range(_ROUNDS):
            async with lock:
                helper = await self._ensure(request)
            code = -1
            async with aclosing(self._follow(helper)) as said:
                async for line in said:
                    match line:
                        case UploadProgress():
                            yield _progress(line)
                        case UploadDone():
                            done = line
                        case UploadFailed() if line.code not in _PASSING:
                            await self.pods.remove(instance, request.save)
                            raise NotSaved(line.text)
                        case UploadFailed():
                            await self.pods.remove(instance, request.save)
                            raise EngineError(line.text)
                        case int():
                            code = line
            if code == EXIT_DONE and done is not None:
                await self.pods.remove(instance, request.save)
                _log.info("pod of %s: uploaded as %s", instance, done.digest)
                yield ImageUploaded(instance=instance, save=request.save, digest=done.digest)
                return
            if code == EXIT_NEEDS_LAYERS:
                yield Progress(info="Uploading the tool's own files, which is done once")
                async with aclosing(self._layers(request)) as progress:
                    async for one in progress:
                        yield one
                continue
            said_last = await self._engine.log_tail(helper, 20)
            _log.error("pod of %s: the upload helper ended: %s", instance, said_last)
            await self.pods.remove(instance, request.save)
            raise EngineError(f"the upload was cut off (exit code {code})")
        await self.pods.remove(instance, request.save)
        raise NotSaved("the image server does not keep what it is sent")

    # ---- putting it together

    async def _ensure(self, request: UploadImage | CheckpointPod) -> str:
        """A helper in push mode, which runs or has run; its container's id."""
        app = await self._app(request.instance)
        if app.running and isinstance(request, UploadImage):
            raise NotSaved("its app runs again")
        if helper := await self._helper_of(request):
            return helper
        if isinstance(request, UploadImage):
            await self.pods.remove(request.instance)
        elif await self._part_of(request, spec.SCAN) is None:
            raise CopyLost("the copy of its files is gone")
        return await self._build(request, app)

    async def _app(self, instance: str) -> ContainerState:
        app = (await self._builder.look(instance)).get(Role.APP)
        if app is None:
            raise NoSuchPod(f"there is no app of {instance} on this node")
        return app

    async def _helper_of(self, request: UploadImage | CheckpointPod) -> str | None:
        """The helper in push mode that does, or has done, what is asked for."""
        return await self._part_of(request, spec.PUSH, "running", "exited")

    async def _part_of(
        self, request: UploadImage | CheckpointPod, role: str, *states: str
    ) -> str | None:
        """The id of a container of this save's upload pod; it runs, unless others are named."""
        for one in await self.pods.containers(request.instance):
            mine = one["Labels"].get(spec.LABEL_SAVE) == request.save
            if mine and role_of(one) == role and one["State"] in (states or ("running",)):
                return str(one["Id"])
        return None

    async def _build(self, request: UploadImage | CheckpointPod, app: ContainerState) -> str:
        instance, save = request.instance, request.save
        image = await self._image(app)
        made = await self._reconciler.spec_of(instance, pod.read_image(image))
        plan, scanned = await self._plan(made, request, app, image)
        key = self._inspector.folder(instance).key()
        files = self._reconciler.files_of(instance, made.image, key) | {PLAN_FILE: encode(plan)}
        infra = self._builder.start_infra_in(
            made,
            spec.upload_container_name(instance, spec.INFRA),
            lambda subnet: spec.upload_network_definition(made, subnet, save),
            lambda network: spec.upload_infra_definition(made, network, save),
        )
        if isinstance(request, UploadImage):
            id, _ = await gather_all(infra, self._start_scanner(made, scanned, save))
        else:
            id = await infra
        return await self._start_helper(made, spec.PUSH, id, save, files)

    async def _copy(
        self, request: CheckpointPod, lock: asyncio.Lock
    ) -> AsyncGenerator[Progress, None]:
        """Have a copy of the app's files, served by a scanner.

        One that an earlier agent had begun is made anew: its scanner waits for a pause in vain.
        """
        instance, save = request.instance, request.save
        app = await self._app(instance)
        image = await self._image(app)
        made = await self._reconciler.spec_of(instance, pod.read_image(image))
        async with lock:
            await self.pods.remove(instance)
            root = await self._folder_of(app, image)
            volumes = spec.scanned_volumes(instance, made.image.volumes)
            for volume in (
                spec.scan_volume_definition(made, save),
                spec.copy_volume_definition(made, save),
            ):
                await self._engine.create_volume(volume)
            name = spec.upload_container_name(instance, spec.SCAN)
            definition = spec.copier_definition(
                made, self._config.images.upload, spec.Scanned(root, volumes), save
            )
            scanner = await self._engine.create_container(name, definition)
            await self._engine.start_container(scanner)

        async def in_pause(app: ContainerState) -> None:
            if root is None:
                await self._transfer.commit(app.id, COMMITTED, instance)

        look = partial(self._app, instance)
        try:
            async with aclosing(self._copies.make(scanner, lock, look, in_pause)) as said:
                async for progress in said:
                    yield progress
        except BaseException:
            async with lock:
                await self.pods.remove(instance)
            raise

    async def _folder_of(self, app: ContainerState, image: dict[str, Any]) -> str | None:
        """The folder of the app's writable layer; None: that is to be told otherwise."""
        if len(layers_of(image)) > MAX_LAYERS_BELOW:
            return None
        inspected = await self._transfer.container(app.id)
        return layer_folder(inspected) if has_layer_folder(await self._engine.info()) else None

    async def _image(self, app: ContainerState) -> dict[str, Any]:
        """The image that the app was started from, as inspected.

        :raises NotSaved: it was removed, and what is above it can't be told without it.
        """
        try:
            return await self._engine.image(app.image)
        except NotFound:
            raise NotSaved(
                "the image that it was started from was removed from its machine",
                hint="its owner can load or fetch it again",
            ) from None

    async def _plan(
        self,
        made: PodSpec,
        request: UploadImage | CheckpointPod,
        app: ContainerState,
        image: dict[str, Any],
    ) -> tuple[UploadPlan, spec.Scanned]:
        server = self.image_server()
        root = await self._folder_of(app, image)
        committed: list[str] = []
        flat = len(layers_of(image)) > MAX_LAYERS_BELOW
        if root is None and not flat:
            name = f"{COMMITTED}:{made.instance}"
            if isinstance(request, UploadImage):
                await self._transfer.commit(app.id, COMMITTED, made.instance)
            above = layers_of(await self._engine.image(name))
            committed = above[len(layers_of(image)) :]
        known = self._table.find(app.image)
        plan = upload_plan(
            made.instance,
            request.save,
            server,
            self._config.ca,
            image,
            derived_from=known.repository if known else "",
            committed=committed,
            flat=flat,
            # The same at each try: the portal takes one image for a save.
            at=time.time() if app.running else app.finished or time.time(),
        )
        volumes = spec.scanned_volumes(made.instance, made.image.volumes)
        return plan, spec.Scanned(root, volumes)

    async def _start_scanner(self, made: PodSpec, scanned: spec.Scanned, save: str) -> None:
        await self._engine.create_volume(spec.scan_volume_definition(made, save))
        name = spec.upload_container_name(made.instance, spec.SCAN)
        definition = spec.scanner_definition(made, self._config.images.upload, scanned, save)
        id = await self._engine.create_container(name, definition)
        await self._engine.start_container(id)
        try:
            async with asyncio.timeout(_READY_S):
                async with aclosing(self._engine.follow_output(id)) as lines:
                    async for line in lines:
                        if line.strip() == READY_LINE:
                            return
        except TimeoutError:
            _log.warning("pod of %s: the scanner is not ready", made.instance)
        said = await self._engine.log_tail(id, 20)
        raise EngineError(f"the scanner does not start: {said.strip()[-300:]}")

    async def _start_helper(
        self, made: PodSpec, mode: str, infra: str, save: str, files: dict[str, bytes]
    ) -> str:
        name = spec.upload_container_name(made.instance, mode)
        definition = spec.upload_helper_definition(
            made, self._config.images.upload, mode, infra, save
        )
        id = await self._engine.create_container(name, definition)
        await self._engine.put_files(id, POD_FOLDER, pod.pod_files(files))
        await self._engine.start_container(id)
        return id

    # ---- following

    async def _follow(self, id: str) -> AsyncGenerator[UploadLine | int, None]:
        """What a helper says, and at last its exit code."""
        async with aclosing(self._engine.follow_output(id)) as lines:
            async for line in lines:
                kind: Any = UploadLine
                try:
                    yield decode(line, kind)
                except InvalidMessage:
                    _log.warning("an upload helper said %r", line[:200])
        yield await self._engine.wait_container(id)

    async def _layers(self, request: UploadImage | CheckpointPod) -> AsyncGenerator[Progress, None]:
        """Have the helper upload layers that only the engine has; then it is to push anew."""
        instance, save = request.instance, request.save
        containers = await self.pods.containers(instance)
        for one in containers:
            if role_of(one) in (spec.PUSH, spec.LAYERS, spec.FLAT):
                await self._engine.remove_container(one["Id"])
        infra = next((str(one["Id"]) for one in containers if role_of(one) == spec.INFRA), None)
        app = (await self._builder.look(instance)).get(Role.APP)
        if infra is None or app is None:
            raise EngineError("a part of the upload is gone")
        image = await self._image(app)
        made = await self._reconciler.spec_of(instance, pod.read_image(image))
        files: dict[str, bytes] = {}
        flat = len(layers_of(image)) > MAX_LAYERS_BELOW
        mode = spec.FLAT if flat else spec.LAYERS
        helper = await self._start_helper(made, mode, infra, save, files)
        committed = f"{COMMITTED}:{instance}"
        if flat and isinstance(request, CheckpointPod):
            data = self._transfer.file_system(await self._unpacked(made, committed, save))
        elif flat:
            data = self._transfer.file_system(app.id)
        elif await self._has(committed):
            data = self._transfer.archive(committed)
        else:
            data = self._transfer.archive(str(image["Id"]))
        feeding = asyncio.create_task(self._feed(helper, data), name=f"layers of {instance}")
        try:
            code = -1
            async with aclosing(self._follow(helper)) as said:
                async for line in said:
                    match line:
                        case UploadProgress():
                            yield _progress(line, "the tool's own files")
                        case UploadFailed():
                            raise EngineError(line.text)
                        case int():
                            code = line
            if code != EXIT_DONE:
                raise EngineError(f"the upload of the tool was cut off (exit code {code})")
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        await self._engine.remove_container(helper)
        await self._start_helper(made, spec.PUSH, infra, save, files)

    async def _unpacked(self, made: PodSpec, image: str, save: str) -> str:
        """A container of an image, which is never started: its whole file system can be read."""
        name = spec.upload_container_name(made.instance, spec.COPY)
        return await self._engine.create_container(
            name, spec.unpacked_definition(made, image, save)
        )

    async def _feed(self, helper: str, data: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(data):
                await self._transfer.feed(helper, data)
        except EngineError as error:
            _log.warning("layers for the upload helper: %s", error.one_line())
            await self._engine.stop_container(helper, _GRACE_S)

    async def _has(self, image: str) -> bool:
        try:
            await self._engine.image(image)
        except EngineError:
            return False
        return True


def _progress(line: UploadProgress, what: str = "its files") -> Progress:
    fraction = line.done / line.total if line.total else None
    info = line.info
    if not info:
        size = f"{memory_text(line.done)} of {memory_text(line.total)}"
        info = f"Uploading {what}: {size}, {memory_text(line.sent)} sent"
    return Progress(info=info, fraction=fraction)
