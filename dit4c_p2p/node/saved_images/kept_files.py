"""What an instance that went on elsewhere has left on this machine, as an image for a new one.

The kept container is committed once, and the image is known by the digest of its reference. What is
in the container's volumes no commit has: it is copied when the new pod is made.
"""

import logging

from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.pod import FILES_FOLDER
from dit4c_p2p.messages.saved_images import repository_of
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.image_transfer import ImageTransfer
from dit4c_p2p.node.errors import EngineError, NoSuchPod, NotFound, UnknownImage
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.status import ContainerState
from dit4c_p2p.node.saved_images.table import ImageTable, engine_name

_log = logging.getLogger(__name__)

# What this agent marks containers with.
_LABELS = (
    pod.LABEL_INSTANCE,
    pod.LABEL_ROLE,
    pod.LABEL_DATA_DIR,
    pod.LABEL_APP_PORT,
    pod.LABEL_FILES,
)


async def ensure_kept_image(
    engine: Engine, table: ImageTable, image: str, app: ContainerState | None
) -> None:
    """Have an image of what is kept of an app. The caller holds the lock of its pod.

    :param image: the reference.
    :param app: the kept container, if it is on this machine.
    :raises UnknownImage: it is not.
    :raises EngineError: it runs still, or the engine does not do it.
    """
    if app is None:
        raise UnknownImage("what was kept on this machine is not here any more")
    if app.running:
        raise EngineError("what was kept on this machine is not stopped yet")
    instance, _ = split_kept(image) or ("", "")
    digest = image.rpartition("@")[2]
    known = table.get(digest)
    if known is not None:
        try:
            await engine.image(known.image)
        except NotFound:
            _log.info("the image of what %s has left is made again", instance)
        else:
            return
    repository = repository_of(instance)
    name, _, tag = engine_name(repository, digest).partition(":")
    made = await ImageTransfer(engine).commit(app.id, name, tag, without=_LABELS)
    table.add(repository, digest, made)


async def copy_volumes(
    engine: Engine, spec: pod.PodSpec, source: ContainerState | None, target: str
) -> None:
    """Copy what is in a kept app's volumes to those of a new one, which has not been started.

    :param target: the new app's container.
    :raises NoSuchPod: the kept app is not here any more.
    """
    if source is None:
        raise NoSuchPod("what was kept on this machine is not here any more")
    for path in spec.image.volumes:
        if not spec.files or path.rstrip("/") != FILES_FOLDER:
            await ImageTransfer(engine).copy_folder(source.id, target, path)
