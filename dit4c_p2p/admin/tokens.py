"""Administration of people's API tokens: on the portal's own machine, or through its API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from dit4c_p2p.database import DatabaseSpec, databases
from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.portal.accounts import api_tokens, people
from dit4c_p2p.portal.api.people import token_view
from dit4c_p2p.portal.audit import Audit, local_audit_user
from dit4c_p2p.portal.config import AUDIT_FILE
from dit4c_p2p.portal.schemas import NewTokenView, TokenView
from dit4c_p2p.portal.services import accounts

T = TypeVar("T")


class TokenRefused(DitError):
    """The portal refuses, for the reason in its message."""

    code = "token_refused"


class TokenAdmin(Protocol):
    """Interface to a person's tokens."""

    async def create(self, person: str, label: str, days: int, scopes: frozenset[str]) -> str:
        """Create a token; return its text, which is stored nowhere."""

    async def list(self, person: str) -> Sequence[TokenView]:
        """Return the tokens, the newest first."""

    async def revoke(self, person: str, token: str) -> None:
        """Revoke a token by its id or its label."""


class DatabaseTokenAdmin:
    """Tokens in the portal's database, whether or not the portal runs; ``now`` in seconds since
    1970.

    :param audit: the portal's audit log. As at the portal, a token is not created if the log can't
        be written; a revocation goes on.
    """

    def __init__(self, audit: Audit, now: float) -> None:
        self._audit = audit
        self._now = now

    async def create(self, person: str, label: str, days: int, scopes: frozenset[str]) -> str:
        """See :class:`TokenAdmin`."""
        _, text = await accounts.create_api_token(
            self._audit,
            person,
            label=label,
            scopes=scopes,
            days=days,
            now=self._now,
            who=local_audit_user(),
        )
        return text

    async def list(self, person: str) -> Sequence[TokenView]:
        """See :class:`TokenAdmin`."""
        await people.get_person(person)
        return [token_view(token) for token in await api_tokens.tokens_of_person(person)]

    async def revoke(self, person: str, token: str) -> None:
        """See :class:`TokenAdmin`."""
        await people.get_person(person)
        await accounts.end_api_token(self._audit, person, token, who=local_audit_user())


class ApiTokenAdmin:
    """Tokens through the portal's API, with an admin's token."""

    def __init__(self, client: PortalClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def create(self, person: str, label: str, days: int, scopes: frozenset[str]) -> str:
        """See :class:`TokenAdmin`."""
        body = {"label": label, "days": days, "scopes": sorted(scopes)}
        path = f"people/{quote(person, safe='')}/tokens"
        return (await self._call("POST", path, NewTokenView, json=body)).token

    async def list(self, person: str) -> Sequence[TokenView]:
        """See :class:`TokenAdmin`."""
        return await self._call("GET", f"people/{quote(person, safe='')}/tokens", list[TokenView])

    async def revoke(self, person: str, token: str) -> None:
        """See :class:`TokenAdmin`."""
        path = f"people/{quote(person, safe='')}/tokens/{quote(token, safe='')}/revoke"
        await self._call("POST", path, list[TokenView])

    async def _call(self, method: str, path: str, kind: type[T], **more: Any) -> T:
        url = self._client.url(f"/api/v1/{path}")
        try:
            async with self._client.session.request(
                method, url, headers=self._headers, **more
            ) as response:
                body = await response.read()
                if response.ok:
                    return msgspec.json.decode(body, type=kind)
                problem = msgspec.json.decode(body, type=dict[str, Any])
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise TokenRefused(
                f"the portal does not answer as one: {error or 'time is up'}",
                hint="check its URL and that it runs",
            ) from None
        raise TokenRefused(f"the portal says: {problem.get('detail') or response.status}")


@asynccontextmanager
async def local_token_admin(
    spec: DatabaseSpec, audit: Path, now: float
) -> AsyncIterator[TokenAdmin]:
    """Return the token administration of a portal on this machine; ``audit`` is its audit log."""
    with closing(Audit(audit)) as log:
        async with databases([spec]):
            yield DatabaseTokenAdmin(log, now)


@asynccontextmanager
async def api_token_admin(url: str, token: str) -> AsyncIterator[TokenAdmin]:
    """Return the token administration of a portal on another machine.

    :raises ConfigError: the token would cross a network unprotected.
    """
    async with PortalClient(PortalInfo(name="", url=url, key="")) as client:
        yield ApiTokenAdmin(client, token)


def audit_log_of_folder(folder: Path) -> Path:
    """Return the path of the portal's audit log of a ``dit4c up``."""
    return folder / "portal" / AUDIT_FILE


def portal_database_of_folder(folder: Path) -> DatabaseSpec:
    """Return the portal's database of a ``dit4c up``.

    :raises ConfigError: the data folder has none.
    """
    path = folder / "portal" / "portal.sqlite3"
    if not path.exists():
        raise ConfigError(
            f"there is no installation in {folder}",
            hint="start 'dit4c up' once, or say where with --data-dir",
        )
    return DatabaseSpec("portal", path, trace=audit_log_of_folder(folder))
