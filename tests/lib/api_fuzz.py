"""schemathesis against a portal's API, as an admin, as a user and as nobody."""

import asyncio
import os
import re
import sys
from pathlib import Path

from systems.portal import PortalAtWork

from dit4c_p2p.portal.opaque_tokens import digest, public_id

CALLERS = ("admin", "user", "nobody")
# A run with fewer cases has not come to each operation: too little time, or no document.
FEWEST = 100
# Streams have no end to wait for.
_STREAMS = "/events$"
_CONFIG = Path(__file__).with_name("schemathesis.toml")
_CHECKS = (
    "no_mistake",
    "no_unauthorised_answer",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


async def fuzz(
    work: PortalAtWork, caller: str, *, examples: int, seconds: int, seed: int | None = None
) -> tuple[int, str]:
    """Run schemathesis in a process of its own; its exit status and what it printed.

    It fails as well if there was no time for :data:`FEWEST` cases.

    :param caller: one of :data:`CALLERS`.
    :param examples: how many for each operation, at most.
    :param seconds: for how long; it goes on trying other things until then.
    :param seed: of the cases; None for others in each run.
    """
    token = {"admin": work.token, "user": "", "nobody": "none"}[caller] or await work.person("max")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG)),
        *("run", f"{work.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {token}"),
        *("--checks", ",".join(_CHECKS), "--exclude-path-regex", _STREAMS),
        *("--max-examples", str(examples), "--request-timeout", "10", "--no-color"),
        *("--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure"),
        *("--generation-database", "none"),
        *("--max-time", str(seconds)),
        *(() if seed is None else ("--seed", str(seed))),
        cwd=work.config.data_folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            **os.environ,
            "DIT4C_FUZZ_AS": caller,
            "DIT4C_FUZZ_KEEP": f"admin max test {public_id(digest(token))}",
            "SCHEMATHESIS_HOOKS": "lib.api_checks",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = printed.decode(errors="replace")
    generated = re.search(r"(\d+) generated", text)
    too_few = generated is None or int(generated[1]) < FEWEST
    return process.returncode or int(too_few), text
