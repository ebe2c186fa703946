"""Showing a person's files in a pod, and taking them away: the storage helper and its mount.

The app starts before its files are mounted, so that its ``/mnt`` is the plain folder, over which
they can be mounted anew when a storage helper has died; see ``storage_spec``. A pod without its
files runs on: what is wrong is a notice, and the storage helper is tried again.
"""

import asyncio
import logging

import msgspec

from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.pod import DRAIN_S, HelperState, HelperStatus
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import EngineError, NodeFailure, NotFound
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.spec import PodSpec, Role
from dit4c_p2p.node.pods.status import ContainerState
from dit4c_p2p.node.pods.storage_spec import files_volume_name, owner_of

_log = logging.getLogger(__name__)

_MOUNT_S = 60.0
# The helper's last words are about what it could not send.
_LAST_LINES = 20
_TOLD = {
    HelperState.UNSENT: "these files were not sent to the file server",
    HelperState.CONFLICT: "changed elsewhere as well, so what was written here is kept in",
}


class FilesMount:
    """Mounts and unmounts the files of one agent's pods.

    :param image: the storage helper's image; empty: no files are shown.
    """

    def __init__(self, engine: Engine, data_folder: str, image: str) -> None:
        self._engine = engine
        self._data_folder = data_folder
        self._image = image

    async def place(self, instance: str) -> str:
        """Where the files appear on the engine's machine.

        :raises NotFound: the pod has no place for files.
        """
        return str((await self._engine.volume(files_volume_name(instance)))["Mountpoint"])

    async def show(self, spec: PodSpec, infra: str, app: str) -> None:
        """Start a storage helper and mount the files, in the place of a mount that is dead.

        :param app: the id of the app's container, whose user the files look owned by.
        :raises EngineError: it can't be done.
        """
        user = (await self._engine.container(app)).user
        passwd, group = await asyncio.gather(
            self._engine.read_file(app, "/etc/passwd"), self._engine.read_file(app, "/etc/group")
        )
        owner = owner_of(user, passwd, group)
        definition = pod.storage_definition(spec, infra, owner)
        name = pod.container_name(spec.instance, Role.STORAGE)
        await self._engine.start_container(await self._engine.create_container(name, definition))
        await self._run(spec.instance, "mount", owner)

    async def unmount(self, instance: str) -> None:
        """Take the mount away, whatever state it is in; fine if the pod has no place for files.

        :raises EngineError: it can't be done.
        """
        try:
            await self._run(instance, "unmount")
        except NotFound:
            return

    async def remove_left_mounter(self, instance: str) -> None:
        """Remove the mount container of an agent that was killed, when it has ended.

        The caller holds the pod's lock, so that this agent mounts nothing meanwhile.
        """
        name = pod.container_name(instance, Role.MOUNTER)
        try:
            async with asyncio.timeout(_MOUNT_S):
                await self._engine.wait_container(name)
        except NotFound:
            return
        except TimeoutError:
            _log.warning("pod of %s: its mount container did not end", instance)
        await self._engine.remove_container(name)

    async def drain(self, storage: ContainerState) -> str:
        """Have the storage helper send what was written, and end.

        Returns what its person is told of files that did not arrive where they belong; mostly
        nothing.
        """
        if not storage.running:
            return ""
        await self._engine.stop_container(storage.id, DRAIN_S)
        return said_at_its_end(await self._engine.log_tail(storage.id, _LAST_LINES))

    async def _run(self, instance: str, verb: str, owner: tuple[int, int] = (0, 0)) -> None:
        """Run the mount container to its end."""
        volume = await self._engine.volume(files_volume_name(instance))
        source, labels = str(volume["Mountpoint"]), volume.get("Labels") or {}
        # Who removes all pods of a folder knows no images.
        image = self._image or labels.get(pod.LABEL_STORAGE_IMAGE, "")
        if not image:
            raise EngineError("this node has no image of the storage helper")
        name = pod.container_name(instance, Role.MOUNTER)
        await self._engine.remove_container(name)
        definition = pod.mounter(instance, self._data_folder, image, source, verb, owner)
        id = await self._engine.create_container(name, definition)
        try:
            await self._engine.start_container(id)
            async with asyncio.timeout(_MOUNT_S):
                code = await self._engine.wait_container(id)
            if code:
                said = (await self._engine.log_tail(id, 5)).strip()
                raise EngineError(f"the files can't be {verb}ed: {said}")
        except TimeoutError:
            raise EngineError(f"the files were not {verb}ed in {_MOUNT_S:.0f} s") from None
        finally:
            await self._engine.remove_container(id)


def told_of(details: dict[HelperState, str]) -> str:
    """What a person is told of files, by what a storage helper has said last in each state."""
    return "; ".join(
        f"{words}: {details[state]}" for state, words in _TOLD.items() if state in details
    )


def said_at_its_end(log_tail: str) -> str:
    """What a person is told of files, by the last lines of a storage helper."""
    details: dict[HelperState, str] = {}
    for line in log_tail.splitlines():
        try:
            status = decode(line.encode(), HelperStatus)
        except (DitError, msgspec.MsgspecError):
            continue
        details[status.state] = status.detail
    return told_of(details)


def trouble_of(instance: str, failure: NodeFailure) -> str:
    """What a person is told of files that can't be shown; the rest is in the log."""
    _log.warning("pod of %s: its files: %s", instance, failure.one_line())
    return "Your files can't be shown in /mnt on this machine"
