"""The storage helper as a whole: file servers on one side, the kernel's descriptor on the other."""

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path

from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.helpers import pod_config
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.helpers.storage.compound_remote import say_hello
from dit4c_p2p.helpers.storage.file_operations import StorageFilesystem
from dit4c_p2p.helpers.storage.fuse_session import PyfuseKernel, serve_fuse
from dit4c_p2p.helpers.storage.plain_remote import PlainRemote
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.roots import follow_roots
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.helpers.storage.sftp_client import open_client
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.pod import DRAIN_S, FILES_OWNER_VARIABLE, MOUNT_SOCKET, HelperState
from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.overlay.client import connect_peer, dial
from dit4c_p2p.overlay.errors import Unreachable
from dit4c_p2p.overlay.ssh_options import Identity

_log = logging.getLogger(__name__)

# Said at the end before the agent kills the container.
_DRAIN_LIMIT_S = DRAIN_S - 3.0
STOP_LIMIT_S = DRAIN_S - 1.0
_MOST_NAMED = 5


async def serve_pod(stop: asyncio.Event) -> None:
    """Serve the mount that is handed over, until told to stop; then send what is left."""
    pod = pod_config.load_pod_config()
    status = StatusLines("storage")
    status.report(HelperState.CONNECTING)
    filesystem = StorageFilesystem(_owner(), PyfuseKernel())
    filesystem.on_conflict = lambda: _report_conflicts(filesystem, status)
    async with PortalClient(pod.config.portal, ca=pod.config.ca) as client:
        registry = Registry(client, None)  # the helper may not write into the pod's folder
        links = [_link(pod, server, registry, status) for server in pod.config.fileservers]
        works = [asyncio.create_task(registry.run(), name="registry")]
        works += [asyncio.create_task(link.run(), name=link.name) for link in links]
        if len(links) == 1:
            filesystem.table.plant(b"", links[0], b"/")
        else:
            works.append(asyncio.create_task(follow_roots(filesystem.table, links), name="roots"))
        works.append(asyncio.create_task(_serve_mount(filesystem), name="mount"))
        told = asyncio.create_task(stop.wait(), name="told to stop")
        try:
            done, _ = await asyncio.wait({told, *works}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {told}:
                task.result()
            if told in done:
                await send_rest(filesystem, status)
                # The kernel's requests that still wait for a server end with the descriptor; to
                # wait for them here would be to wait for the server.
                logging.shutdown()
                os._exit(0)
        finally:
            for task in (told, *works):
                task.cancel()
            await asyncio.gather(told, *works, return_exceptions=True)


def _link(
    pod: HelperPod, server: FileServerInfo, registry: Registry, status: StatusLines
) -> ServerLink:
    identity, name = Identity(pod.name, pod.key), PeerName.parse(server.name)
    url = URL(server.url)
    addresses = server.connect or [f"{url.host}:{url.explicit_port or SSH_PORT}"]

    async def connect() -> Remote:
        try:
            connection = await connect_peer(identity, name, addresses, registry)
        except Unreachable:
            connection = await dial(identity, name, SSH_PORT, pod.config.routers, registry)
        sftp = await open_client(connection)
        return await say_hello(sftp) or PlainRemote(sftp)

    def report(trouble: str) -> None:
        status.report(HelperState.FAILING if trouble else HelperState.CONNECTED, trouble)

    return ServerLink(server.name, connect, limit_s=pod.config.files_wait_s, on_state=report)


async def _serve_mount(filesystem: StorageFilesystem) -> None:
    """Wait for the descriptor of a mount, and serve it until the mount is gone."""
    descriptor, answer = await _handed_over()
    await serve_fuse(filesystem, f"/dev/fd/{descriptor}", mounted=answer)
    _log.info("the mount is gone")


async def _handed_over() -> tuple[int, "Answer"]:
    path = Path(MOUNT_SOCKET)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of a helper before this one
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        # The mount container's root has no power over other users' files.
        path.chmod(0o666)
        listening.listen(1)
        listening.setblocking(False)
        while True:
            connection, _ = await loop.sock_accept(listening)
            # The mount container sends at once; a blocking read is short.
            connection.settimeout(20)
            message, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, 1, 1)
            if message == b"M" and len(descriptors) == 1:
                return descriptors[0], Answer(connection)
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()


class Answer:
    """Tells the mount container that its mount is served."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __call__(self) -> None:
        """Say so, and hang up."""
        with contextlib.suppress(OSError):
            self._connection.send(b"S")
        self._connection.close()


async def send_rest(
    filesystem: StorageFilesystem, status: StatusLines, limit_s: float = _DRAIN_LIMIT_S
) -> None:
    """Send what was written, for so long; report what could not be sent, and conflict copies."""
    try:
        async with asyncio.timeout(limit_s):
            await filesystem.finish()
    except TimeoutError:
        _log.warning("not everything was sent in %.0f s", limit_s)
    names = filesystem.unsent()
    if names:
        _log.warning("%d files were not sent", len(names))
        status.report(HelperState.UNSENT, _named(names))
    if filesystem.conflict_copies:
        _report_conflicts(filesystem, status)


def _report_conflicts(filesystem: StorageFilesystem, status: StatusLines) -> None:
    status.report(HelperState.CONFLICT, _named(filesystem.conflict_copies))


def _named(names: list[bytes]) -> str:
    """Some of these names, and how many more there are."""
    shown = ", ".join(os.fsdecode(name) for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return shown + more


def _owner() -> tuple[int, int]:
    """User and group of the app.

    :raises ConfigError: the agent did not say.
    """
    text = os.environ.get(FILES_OWNER_VARIABLE, "")
    user, _, group = text.partition(":")
    if not (user.isdecimal() and group.isdecimal()):
        raise ConfigError(
            f"${FILES_OWNER_VARIABLE} is not uid:gid: {text!r}",
            hint="the node agent sets it",
        )
    return int(user), int(group)
