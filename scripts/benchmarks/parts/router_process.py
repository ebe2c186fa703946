"""A router in a process of its own: prints its two ports and serves until it is ended.

    router_process.py FOLDER [HTTP-PORT SSH-PORT]

FOLDER holds ``router_key`` and ``portal.json``.
"""

import asyncio
import signal
import sys
from pathlib import Path

import asyncssh
import uvloop

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.router import Router, RouterConfig


async def main(folder: Path, http: int, ssh: int) -> None:
    """Serve until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    router = Router(
        RouterConfig(
            name=PeerName.parse("router-main"),
            key=asyncssh.read_private_key(folder / "router_key"),
            http=(("127.0.0.1", http),),
            ssh=(("127.0.0.1", ssh),),
            portal=decode((folder / "portal.json").read_bytes(), PortalInfo),
            user_url="http://{id}.localhost:8081/",
            data_folder=folder / "router",
        )
    )
    await router.start()
    print(router.http_port, router.ssh_port, flush=True)
    await told.wait()
    await router.stop()


if __name__ == "__main__":
    ports = [int(port) for port in sys.argv[2:]] or [0, 0]
    uvloop.run(main(Path(sys.argv[1]), *ports))
