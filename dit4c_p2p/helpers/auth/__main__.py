"""``python3 -m dit4c_p2p.helpers.auth``."""

import asyncio
import sys

from dit4c_p2p.helpers import pod_config
from dit4c_p2p.helpers.auth.server import serve_auth
from dit4c_p2p.helpers.main import run
from dit4c_p2p.helpers.status import StatusLines


async def main(stop: asyncio.Event) -> None:
    """Serve this pod's app until told to stop."""
    await serve_auth(pod_config.load_pod_config(), StatusLines("auth"), stop)


if __name__ == "__main__":
    sys.exit(run(main))
