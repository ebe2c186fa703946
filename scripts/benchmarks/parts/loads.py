"""What is put on a contestant: requests by wrk, a download by curl, WebSocket echoes."""

import re
import sys
from pathlib import Path

from parts.peer import DOWNLOAD_BYTES, Contestant
from parts.processes import output_of

NEEDED = {"wrk": "wrk", "curl": "curl"}
TIMES_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
ECHO_CONNECTIONS = 32


async def wrk(to: Contestant, connections: int, seconds: int) -> tuple[float, float, float]:
    """Requests a second, and the mean and median of the latency in milliseconds."""
    output = await output_of(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"),
        *_header_options(to),
        f"http://127.0.0.1:{to.port}/1k",
    )
    trouble = re.search(r"Non-2xx.*|Socket errors.*", output)
    if trouble:
        raise SystemExit(f"{to.name}: {trouble[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    mean = re.search(r"Latency\s+([\d.]+)(us|ms|s)", output)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", output)
    assert rate and mean and median, output
    return (
        float(rate[1]),
        float(mean[1]) * TIMES_MS[mean[2]],
        float(median[1]) * TIMES_MS[median[2]],
    )


async def download(to: Contestant) -> float:
    """MB a second."""
    output = await output_of(
        *("curl", "-sS", "-o", "/dev/null", *_header_options(to)),
        *("-w", "%{http_code} %{size_download} %{speed_download}"),
        f"http://127.0.0.1:{to.port}/100m",
    )
    status, size, speed = output.split()
    if status != "200" or int(size) != DOWNLOAD_BYTES:
        raise SystemExit(f"{to.name}: {size} bytes with status {status}")
    return float(speed) / 1e6


async def echoes(to: Contestant, seconds: int) -> float:
    """WebSocket round trips a second over 32 connections."""
    program = Path(__file__).with_name("echo.py")
    output = await output_of(
        *(sys.executable, str(program), "--count", str(to.port), str(seconds)),
        *(str(ECHO_CONNECTIONS), *(f"{name}:{value}" for name, value in to.fields.items())),
    )
    return float(output)


def _header_options(to: Contestant) -> list[str]:
    """As wrk and curl both take them."""
    return [part for name, value in to.fields.items() for part in ("-H", f"{name}: {value}")]
