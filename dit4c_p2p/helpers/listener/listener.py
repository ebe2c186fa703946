"""The listener helper as a whole."""

import asyncio

import asyncssh

from dit4c_p2p.helpers.listener.announce import Announcer
from dit4c_p2p.helpers.listener.auth_socket import Splicer
from dit4c_p2p.helpers.pod_config import Pod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.overlay.client import Listening
from dit4c_p2p.overlay.ssh_options import PACKET_BYTES, WINDOW_BYTES, Identity

# An instance's web port in the overlay, whatever port its app has.
WEB_PORT = 80


async def serve(pod: Pod, status: StatusLines, stop: asyncio.Event) -> None:
    """Keep (own name, 80) listened at every router until ``stop`` is set."""
    splicer = Splicer(pod.auth_socket)

    async def bind(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHListener:
        return await connection.create_server(
            splicer.accept,
            str(pod.name),
            WEB_PORT,
            encoding=None,
            window=WINDOW_BYTES,
            max_pktsize=PACKET_BYTES,
        )

    async with PortalClient(pod.config.portal, ca=pod.config.ca) as client:
        registry = Registry(client, None)  # the listener may not write into the pod's folder
        announcer = Announcer(pod, client, status)
        listening = Listening(
            Identity(pod.name, pod.key), pod.config.routers, registry, bind, announcer.on_state
        )
        told = asyncio.create_task(stop.wait(), name="told to stop")
        works = [
            asyncio.create_task(registry.run(), name="registry"),
            asyncio.create_task(listening.run(), name="listening"),
            asyncio.create_task(announcer.run(), name="announcer"),
        ]
        try:
            done, _ = await asyncio.wait({told, *works}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {told}:
                task.result()
        finally:
            splicer.stop()
            for task in (told, *works):
                task.cancel()
            await asyncio.gather(told, *works, return_exceptions=True)
