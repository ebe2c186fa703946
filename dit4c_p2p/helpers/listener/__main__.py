"""``python3 -m dit4c_p2p.helpers.listener``."""

import asyncio
import sys

from dit4c_p2p.helpers import pod_config
from dit4c_p2p.helpers.listener.listener import serve_listener
from dit4c_p2p.helpers.main import run
from dit4c_p2p.helpers.status import StatusLines


async def main(stop: asyncio.Event) -> None:
    """Listen at the routers until told to stop."""
    await serve_listener(pod_config.load_pod_config(), StatusLines("listener"), stop)


if __name__ == "__main__":
    sys.exit(run(main))
