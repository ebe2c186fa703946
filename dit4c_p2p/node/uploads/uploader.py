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
from typing import Any

from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
from dit4c_p2p.messages.node import ImageUploaded, Progress, UploadImage
from dit4c_p2p.messages.pod import POD_FOLDER
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
from dit4c_p2p.node.pods.inspector import PodInspector
from dit4c_p2p.node.pods.reconciler import PodReconciler
from dit4c_p2p.node.pods.spec import PodSpec, Role
from dit4c_p2p.node.pods.status import ContainerState, memory_text
from dit4c_p2p.node.saved_images.table import ImageTable
from dit4c_p2p.node.uploads import spec
from dit4c_p2p.node.uploads.plan import has_layer_folder, layer_folder, layers_of, upload_plan
from dit4c_p2p.node.uploads.pods import COMMITTED, UploadPods, role_of

_log = logging.getLogger(__name__)

_ROUNDS = 4
# An engine takes some 125 layers; above that the app's whole file system becomes one.
MAX_LAYERS_BELOW = 110
_READY = "ready"
_READY_S = 60.0
_GRACE_S = 2
# Codes of UploadFailed that may be otherwise in a while.
_PASSING = frozenset({"scan_broken", "archive_broken", "image_server_away", "upload_interrupted"})


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

    async def upload(
        self, request: UploadImage, lock: asyncio.Lock
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
                            await self.pods.remove(instance)
                            raise NotSaved(line.text)
                        case UploadFailed():
                            await self.pods.remove(instance)
                            raise EngineError(line.text)
                        case int():
                            code = line
            if code == EXIT_DONE and done is not None:
                await self.pods.remove(instance)
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
            await self.pods.remove(instance)
            raise EngineError(f"the upload was cut off (exit code {code})")
        await self.pods.remove(instance)
        raise NotSaved("the image server does not keep what it is sent")

    # ---- putting it together

    async def _ensure(self, request: UploadImage) -> str:
        """A helper in push mode, which runs or has run; its container's id."""
        app = (await self._builder.look(request.instance)).get(Role.APP)
        if app is None:
            raise NoSuchPod(f"there is no app of {request.instance} on this node")
        if app.running:
            raise NotSaved("its app runs again")
        for one in await self.pods.containers(request.instance):
            mine = one["Labels"].get(spec.LABEL_SAVE) == request.save
            if mine and role_of(one) == spec.PUSH and one["State"] in ("running", "exited"):
                return str(one["Id"])
        await self.pods.remove(request.instance)
        return await self._build(request, app)

    async def _build(self, request: UploadImage, app: ContainerState) -> str:
        instance, save = request.instance, request.save
        image = await self._image(app)
        made = await self._reconciler.spec_of(instance, pod.read_image(image))
        plan, scanned = await self._plan(made, save, app, image)
        key = self._inspector.folder(instance).key()
        files = self._reconciler.files_of(instance, made.image, key) | {PLAN_FILE: encode(plan)}
        await self._engine.create_volume(spec.scan_volume(made, save))
        await self._start_scanner(made, scanned, save)
        infra = await self._builder.start_infra_in(
            made,
            spec.container_name(instance, spec.INFRA),
            lambda subnet: spec.network(made, subnet, save),
            lambda network: spec.infra(made, network, save),
        )
        return await self._start_helper(made, spec.PUSH, infra, save, files)

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
        self, made: PodSpec, save: str, app: ContainerState, image: dict[str, Any]
    ) -> tuple[UploadPlan, spec.Scanned]:
        server = self._config.image_server_for_pods()
        if server is None:
            raise NotSaved(
                "this machine knows of no image server", hint="its owner can set [imageserver]"
            )
        inspected = await self._transfer.container(app.id)
        root = layer_folder(inspected) if has_layer_folder(await self._engine.info()) else None
        committed: list[str] = []
        flat = len(layers_of(image)) > MAX_LAYERS_BELOW
        if flat:
            root = None
        elif root is None:
            id = await self._transfer.commit(app.id, COMMITTED, made.instance)
            above = layers_of(await self._engine.image(id))
            committed = above[len(layers_of(image)) :]
        known = self._table.find(app.image)
        plan = upload_plan(
            made.instance,
            save,
            server,
            self._config.ca,
            image,
            derived_from=known.repository if known else "",
            committed=committed,
            flat=flat,
            now=time.time(),
        )
        volumes = spec.scanned_volumes(made.instance, made.image.volumes)
        return plan, spec.Scanned(root, volumes)

    async def _start_scanner(self, made: PodSpec, scanned: spec.Scanned, save: str) -> None:
        name = spec.container_name(made.instance, spec.SCAN)
        definition = spec.scanner(made, self._config.images.upload, scanned, save)
        id = await self._engine.create_container(name, definition)
        await self._engine.start_container(id)
        try:
            async with asyncio.timeout(_READY_S):
                async with aclosing(self._engine.follow_output(id)) as lines:
                    async for line in lines:
                        if line.strip() == _READY:
                            return
        except TimeoutError:
            _log.warning("pod of %s: the scanner is not ready", made.instance)
        said = await self._engine.log_tail(id, 20)
        raise EngineError(f"the scanner does not start: {said.strip()[-300:]}")

    async def _start_helper(
        self, made: PodSpec, mode: str, infra: str, save: str, files: dict[str, bytes]
    ) -> str:
        name = spec.container_name(made.instance, mode)
        definition = spec.helper(made, self._config.images.upload, mode, infra, save)
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

    async def _layers(self, request: UploadImage) -> AsyncGenerator[Progress, None]:
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
        if flat:
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
