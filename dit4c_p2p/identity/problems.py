"""What the portal answers when it refuses a peer something (RFC 9457), for those who are told."""

import json
from dataclasses import dataclass

import aiohttp

from dit4c_p2p.identity.errors import WrongClock

_MAX_BYTES = 16 * 1024
_MAX_CHARS = 300


@dataclass(frozen=True)
class Problem:
    """``code`` is the portal's word for programs, ``detail`` its sentence; empty if it has none."""

    status: int
    code: str = ""
    detail: str = ""

    @property
    def clock(self) -> bool:
        """Whether one of the two clocks is off."""
        return self.code == WrongClock.code

    def __str__(self) -> str:
        return f"the portal answers {self.status}" + (f": {self.detail}" if self.detail else "")


async def read_problem(response: aiohttp.ClientResponse) -> Problem:
    """The problem in an answer whose status is not the one that was hoped for.

    :raises aiohttp.ClientError, TimeoutError, OSError: as any reading.
    """
    body = b""
    while chunk := await response.content.read(_MAX_BYTES - len(body)):
        body += chunk
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Problem(response.status)
    return Problem(response.status, _text(said.get("code")), _text(said.get("detail")))


def _text(value: object) -> str:
    """One line that can be shown."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(char for char in text if char.isprintable())[:_MAX_CHARS]
