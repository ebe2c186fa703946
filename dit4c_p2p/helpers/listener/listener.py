"""The listener helper's main task."""

import asyncio
import logging
from typing import Any

import asyncssh

from dit4c_p2p.helpers.listener.access_news import NewsRelay
from dit4c_p2p.helpers.listener.announce import ListenAnnouncer
from dit4c_p2p.helpers.listener.auth_socket import AuthSocketSplicer
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.ports import INSTANCE_HTTP_PORT, INSTANCE_NEWS_PORT
from dit4c_p2p.overlay.client import ListeningAtRouters
from dit4c_p2p.overlay.ssh_options import PACKET_BYTES, WINDOW_BYTES, Identity

logger = logging.getLogger(__name__)


async def serve_listener(pod: HelperPod, status: StatusLines, stop: asyncio.Event) -> None:
    """Keep (own name, 80) listened at every router until ``stop`` is set."""
    splicer = AuthSocketSplicer(pod.auth_socket)
    relay = NewsRelay(pod.news_socket)

    async def bind(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHListener:
        options: dict[str, Any] = {
            "encoding": None,
            "window": WINDOW_BYTES,
            "max_pktsize": PACKET_BYTES,
        }
        try:
            # First, so that no visitor comes in before the news does.
            await connection.create_server(
                relay.accept, str(pod.name), INSTANCE_NEWS_PORT, **options
            )
        except asyncssh.ChannelListenError:
            logger.info("the router does not tell whose access has ended; it is an older one")
        return await connection.create_server(
            splicer.accept, str(pod.name), INSTANCE_HTTP_PORT, **options
        )

    async with PortalClient(pod.config.portal, ca=pod.config.ca) as client:
        registry = Registry(client, None)  # the listener may not write into the pod's folder
        announcer = ListenAnnouncer(pod, client, status)
        listening = ListeningAtRouters(
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
            await relay.stop()
            for task in (told, *works):
                task.cancel()
            await asyncio.gather(told, *works, return_exceptions=True)
