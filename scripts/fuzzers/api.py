"""The portal's API by its OpenAPI document, with schemathesis: as an admin, a user and nobody.

scripts/fuzz api [--seconds N] [--examples N]
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from lib.api_fuzz import CALLERS, fuzz
from systems.portal import PortalAtWork


async def main(seconds: int, examples: int) -> int:
    """A portal of its own for each caller; the worst of the three exit statuses."""
    worst = 0
    for caller in CALLERS:
        with tempfile.TemporaryDirectory() as folder:
            async with PortalAtWork(Path(folder)) as work:
                seconds_each = max(seconds // len(CALLERS), 1)
                status, printed = await fuzz(work, caller, examples=examples, seconds=seconds_each)
        print(f"=== as {caller}: {'fine' if status == 0 else 'failed'}\n{printed}", flush=True)
        worst = max(worst, status)
    return worst


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/fuzz api", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all three together (600)")
    parser.add_argument("--examples", type=int, default=200, help="for each operation (200)")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.seconds, options.examples)))
