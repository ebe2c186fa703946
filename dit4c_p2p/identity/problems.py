"""Problem documents (RFC 9457) by which the portal refuses a peer's request."""

import json
from dataclasses import dataclass

import aiohttp

from dit4c_p2p.identity.errors import WrongClock

_MAX_BYTES = 16 * 1024
_MAX_CHARS = 300


@dataclass(frozen=True)
class ProblemDocument:
    """``code`` is the portal's error code, ``detail`` its sentence; each may be empty."""

    status: int
    code: str = ""
    detail: str = ""

    @property
    def clock(self) -> bool:
        """Whether the portal refused the request because one of the two clocks is off."""
        return self.code == WrongClock.code

    def __str__(self) -> str:
        return f"the portal answers {self.status}" + (f": {self.detail}" if self.detail else "")


async def read_problem(response: aiohttp.ClientResponse) -> ProblemDocument:
    """Read the problem document of an error response.

    :raises aiohttp.ClientError, TimeoutError, OSError: the response can't be read.
    """
    body = b""
    while chunk := await response.content.read(_MAX_BYTES - len(body)):
        body += chunk
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return ProblemDocument(response.status)
    return ProblemDocument(
        response.status, _problem_text(said.get("code")), _problem_text(said.get("detail"))
    )


def _problem_text(value: object) -> str:
    """Return the value as one printable line."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(char for char in text if char.isprintable())[:_MAX_CHARS]
