"""The auth helper's calls to the portal as an OAuth client (RFC 6749, RFC 7523, RFC 7662)."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.errors import WrongClock
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.net.stranger_log import summed

logger = summed(logging.getLogger(__name__))

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_ANSWER_BYTES = 64 * 1024
# As many logins of one instance at once are already odd.
_EXCHANGES_AT_ONCE = 8
_LOOK_LASTS_S = 2.0
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


class PortalSilent(DitError):
    """The portal does not answer now; trying again may help."""

    code = "portal_silent"


class GrantRefused(DitError):
    """The portal refuses the grant."""

    code = "grant_refused"


@dataclass(frozen=True)
class OAuthGrant:
    """Who logged in; ``access_token`` is opaque and is over after ``expires_in_s``."""

    person: str
    access_token: str
    expires_in_s: float


class PortalOAuth:
    """The client ``instance-<id>``, which signs its assertions with the instance's key.

    :param clock: seconds since 1970, for the assertions.
    """

    def __init__(
        self,
        client: PortalClient,
        name: PeerName,
        key: asyncssh.SSHKey,
        redirect_uri: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._name = name
        self._key = key
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._exchanges = asyncio.Semaphore(_EXCHANGES_AT_ONCE)
        self._look: asyncio.Task[bool] | None = None
        self._looked_at = 0.0

    async def exchange(self, code: str, verifier: str) -> OAuthGrant:
        """Exchange a code for the user's identity.

        :raises PortalSilent: try again later.
        :raises GrantRefused: the code is used up, not ours, or the answer is not usable.
        """
        async with self._exchanges:
            status, answer = await self._post(
                "/oauth/token",
                {
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": self._redirect_uri,
                    "code_verifier": verifier,
                },
            )
        if status != 200 and _clock_is_off_for_oauth(answer):
            raise GrantRefused(
                "The portal refused the login: the clock of the machine that this runs on is wrong",
                hint="Whoever lends the machine has to set its clock.",
            )
        if status != 200:
            raise GrantRefused(
                f"The portal refused the login ({_oauth_error_code(status, answer)})"
            )
        person, token = answer.get("sub"), answer.get("access_token")
        lifetime, kind = answer.get("expires_in"), answer.get("token_type")
        if (
            not isinstance(person, str)
            or not _PERSON.fullmatch(person)
            or not isinstance(token, str)
            or not token
            or not isinstance(lifetime, int)
            or lifetime <= 0
            or not isinstance(kind, str)
            or kind.lower() != "bearer"
        ):
            raise GrantRefused("The portal's answer to the login is not usable")
        return OAuthGrant(person, token, float(lifetime))

    async def is_up(self) -> bool:
        """Whether the portal answers at all; one look serves all who ask within two seconds."""
        if self._look is None or (
            self._look.done() and time.monotonic() - self._looked_at >= _LOOK_LASTS_S
        ):
            self._looked_at = time.monotonic()
            self._look = asyncio.create_task(self._answers(), name="look at the portal")
        return await asyncio.shield(self._look)

    async def stop(self) -> None:
        """Cancel calls that are under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _answers(self) -> bool:
        try:
            async with self._client.session.get(
                self._client.url("/config.json"), allow_redirects=False
            ) as response:
                return response.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def is_active(self, access_token: str) -> bool | None:
        """Whether a token is valid; None if the portal does not answer."""
        try:
            status, answer = await self._post("/oauth/introspect", {"token": access_token})
        except PortalSilent as error:
            logger.warning("sessions could not be asked about: %s", error)
            return None
        if status == 200:
            return answer.get("active") is True and answer.get("client_id", str(self._name)) == str(
                self._name
            )
        logger.warning("sessions could not be asked about: %s", _oauth_error_code(status, answer))
        # The portal says so when this instance's key is no longer in force; that a clock is wrong,
        # says nothing of the session.
        over = answer.get("error") == "invalid_client" and not _clock_is_off_for_oauth(answer)
        return False if over else None

    async def _post(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of a call; ``{}`` for anything else.

        :raises PortalSilent: not reached, too slow, or a status that says "later".
        """
        url = self._client.portal.url
        form = {
            **fields,
            "client_id": str(self._name),
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": tokens.issue(
                self._key, self._name, url, now=self._clock(), claims={"sub": str(self._name)}
            ),
        }
        try:
            async with self._client.session.post(
                self._client.url(path),
                data=form,
                headers={"Accept": "application/json"},
                allow_redirects=False,
            ) as response:
                if response.status == 429 or response.status >= 500:
                    raise PortalSilent(f"the portal answered {response.status}")
                body = bytearray()
                async for data in response.content.iter_chunked(_MAX_ANSWER_BYTES):
                    body += data
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise PortalSilent("the portal's answer is too large")
                return response.status, _json_of_oauth_body(bytes(body))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PortalSilent(f"the portal does not answer ({type(error).__name__})") from None


def _json_of_oauth_body(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _clock_is_off_for_oauth(answer: dict[str, Any]) -> bool:
    """Whether the portal refused an assertion only for its time."""
    return answer.get("code") == WrongClock.code


def _oauth_error_code(status: int, answer: dict[str, Any]) -> str:
    """Return the error code of a response (RFC 6749 section 5.2), safe to show."""
    error = answer.get("code") if _clock_is_off_for_oauth(answer) else answer.get("error")
    if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,40}", error):
        return error
    return str(status)
