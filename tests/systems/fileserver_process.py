"""``python fileserver_process.py FILE``: a file server alone, told by a JSON file what it needs."""

import asyncio
import json
import sys
from pathlib import Path

import asyncssh
import msgspec

from dit4c_p2p.fileserver import FileServer, FileServerConfig, Limits
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo


async def main(told: dict[str, str]) -> None:
    """Serve until it is killed."""
    folder = Path(told["folder"])
    server = FileServer(
        FileServerConfig(
            name=PeerName.parse("fileserver-files"),
            key=asyncssh.import_private_key(told["key"]),
            ssh=(("127.0.0.1", int(told["port"])),),
            portal=msgspec.convert(told["portal"], PortalInfo),
            data_folder=folder / "data",
            files_folder=folder / "trees",
            limits=Limits(connections_per_user=int(told.get("connections", "32"))),
        )
    )
    await server.start()
    await server.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
