"""Who may do what: the portal is asked, and its answer counts for a few seconds.

Nothing is decided here. A permission is remembered by the credentials' hash, the verb and the
repository, only after the portal has given it; a refusal never is.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, auto

import aiohttp
import asyncssh

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.imageserver.http_errors import Refused
from dit4c_p2p.messages.image_access import AUTH_PATH, SERVER_TOKEN_HEADER, RepositoryVerb

_log = logging.getLogger(__name__)

_REMEMBERED = 4096
_TOKEN_S = 120
_TOKEN_RENEWED_S = 60.0
_MAX_CREDENTIALS_CHARS = 16 * 1024
_AT_ONCE = 64
LOGIN = "login"


class Answer(Enum):
    """What the portal says."""

    MAY = auto()
    WHO = auto()
    MAY_NOT = auto()


class Access:
    """Asks the portal.

    :param kept_s: for how long a permission counts.
    :param refused: told of each refusal: the verb, and whether the caller is known.
    """

    def __init__(
        self,
        client: PortalClient,
        name: PeerName,
        key: asyncssh.SSHKey,
        kept_s: float,
        *,
        realm: str,
        refused: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._name, self._key, self._kept_s = client, name, key, kept_s
        self._challenge = f'Basic realm="{realm}"'
        self._refused, self._clock = refused, clock
        self._permitted: OrderedDict[tuple[bytes, str, str], float] = OrderedDict()
        self._token = ("", float("-inf"))
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def require(self, credentials: str, verb: RepositoryVerb, repository: str) -> None:
        """See that the caller may.

        :param credentials: the ``Authorization`` field's value.
        :raises Refused: 401 without good credentials; 404 where the caller may not read, as if it
            were not there; 403 where it may not write; 503 if the portal does not answer.
        """
        match await self._ask(credentials, verb, repository):
            case Answer.MAY:
                return
            case Answer.WHO:
                self._refused("unauthorized")
                raise self._unauthorized()
            case Answer.MAY_NOT if verb is RepositoryVerb.PULL:
                self._refused("denied")
                raise Refused(404, "NAME_UNKNOWN", "there is no such repository")
            case Answer.MAY_NOT:
                self._refused("denied")
                raise Refused(
                    403, "DENIED", f"this {verb} is not allowed", hint="it may be later: ask again"
                )

    async def require_login(self, credentials: str) -> None:
        """See that the credentials are good for something.

        :raises Refused: 401, or 503 if the portal does not answer.
        """
        if await self._ask(credentials, LOGIN, "") is not Answer.MAY:
            self._refused("unauthorized")
            raise self._unauthorized()

    async def readable(self, credentials: str, repositories: Iterable[str]) -> list[str]:
        """Those that the caller may pull from.

        :raises Refused: 503 if the portal does not answer.
        """
        return [
            one
            for one in repositories
            if await self._ask(credentials, RepositoryVerb.PULL, one) is Answer.MAY
        ]

    async def check(self) -> str:
        """What is wrong with the way to the portal; empty if nothing is."""
        try:
            answer = await self._ask_portal("Basic Og==", LOGIN)
        except Refused as error:
            return error.one_line()
        # Without a good token of its own the image server is told 403.
        return "the portal does not know this image server's key" if answer == 403 else ""

    def _unauthorized(self) -> Refused:
        return Refused(
            401,
            "UNAUTHORIZED",
            "log in first",
            hint="the portal's page has a name and a secret for this",
            headers={"WWW-Authenticate": self._challenge},
        )

    async def _ask(self, credentials: str, verb: str, repository: str) -> Answer:
        if not credentials or len(credentials) > _MAX_CREDENTIALS_CHARS:
            return Answer.WHO
        key = (hashlib.sha256(credentials.encode()).digest(), str(verb), repository)
        now = self._clock()
        if self._permitted.get(key, 0.0) > now:
            return Answer.MAY
        path = f"{verb}/{repository}" if repository else str(verb)
        status = await self._ask_portal(credentials, path)
        match status:
            case 204:
                self._permitted[key] = now + self._kept_s
                self._permitted.move_to_end(key)
                while len(self._permitted) > _REMEMBERED:
                    self._permitted.popitem(last=False)
                return Answer.MAY
            case 401:
                return Answer.WHO
            case 403 | 404:
                return Answer.MAY_NOT
        _log.warning("the portal answers %d when it is asked who may", status)
        raise _unavailable_for_image_access()

    async def _ask_portal(self, credentials: str, path: str) -> int:
        headers = {"Authorization": credentials, SERVER_TOKEN_HEADER: self._own_token()}
        url = self._client.url(f"{AUTH_PATH}/{path}")
        try:
            async with self._turns:
                async with self._client.session.get(
                    url, headers=headers, allow_redirects=False
                ) as response:
                    return response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _log.warning("the portal does not answer: %s", str(error) or "time is up")
            raise _unavailable_for_image_access() from None

    def _own_token(self) -> str:
        token, issued = self._token
        now = self._clock()
        if not 0 <= now - issued < _TOKEN_RENEWED_S:
            token = tokens.issue(
                self._key, self._name, self._client.portal.url, now=now, lifetime_s=_TOKEN_S
            )
            self._token = (token, now)
        return token


def _unavailable_for_image_access() -> Refused:
    return Refused(503, "UNAVAILABLE", "the portal does not answer", hint="try again soon")
