"""``config.json``: what the portal makes known about the installation, followed as it changes.

A peer fetches it at its start and then every minute: a new file server or router needs no restart.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from dit4c_p2p.identity.errors import InvalidKey, PortalUnreachable
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import InvalidMessage
from dit4c_p2p.messages.public import FileServerInfo, PortalInfo, PublicConfig, RouterInfo

_log = logging.getLogger(__name__)

_PATH = "/config.json"
_MAX_BYTES = 256 * 1024
FETCH_EVERY_S = 60.0


class InstallationWatcher:
    """Fetches ``config.json`` again and again for as long as :meth:`run` runs.

    :param client: an entered client; another portal's answer than this client's is ignored.
    :param changed: called with each document that differs from the one before, the first too.
    """

    def __init__(
        self,
        client: PortalClient,
        changed: Callable[[PublicConfig], None],
        *,
        every_s: float = FETCH_EVERY_S,
    ) -> None:
        self._client = client
        self._changed = changed
        self._every_s = every_s
        self._newest: PublicConfig | None = None

    async def run(self) -> None:
        """Until cancelled. While the portal does not answer, what it said before counts."""
        said = ""
        while True:
            try:
                public = await fetch_public_config(self._client)
                if not self._is_own(public):
                    raise PortalUnreachable("another portal answers at the URL of this one")
            except PortalUnreachable as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("the portal's config.json can't be fetched: %s", error)
            else:
                said = ""
                if public != self._newest:
                    self._newest = public
                    self._changed(public)
            await asyncio.sleep(self._every_s)

    def _is_own(self, public: PublicConfig) -> bool:
        own = self._client.portal
        same_key = parse_public(public.portal.key).public_data == parse_public(own.key).public_data
        return same_key and public.portal.url == own.url


async def fetch_public_config(client: PortalClient) -> PublicConfig:
    """The portal's ``config.json``.

    :raises PortalUnreachable: nothing answers, or not as a portal does.
    """
    url = client.url(_PATH)
    try:
        async with client.session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise PortalUnreachable(f"{url} answers {response.status}")
            body = b""
            while len(body) <= _MAX_BYTES and (more := await response.content.read(_MAX_BYTES)):
                body += more
        return read_public_config(body)
    except InvalidMessage as error:
        raise PortalUnreachable(f"{url} does not answer as a portal does ({error})") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = str(error) or "time is up"
        raise PortalUnreachable(f"the portal does not answer: {reason}") from None


def read_public_config(body: bytes) -> PublicConfig:
    """A portal's ``config.json``; what a newer portal says beyond it is left out.

    :raises InvalidMessage: not such a document.
    """
    try:
        raw = json.loads(body)
        document = _known_config_part(raw, PublicConfig)
        document["portal"] = _known_config_part(document.get("portal"), PortalInfo)
        document["routers"] = [
            _known_config_part(one, RouterInfo) for one in document.get("routers", ())
        ]
        document["fileservers"] = [
            _known_config_part(one, FileServerInfo) for one in document.get("fileservers", ())
        ]
        public = msgspec.convert(document, PublicConfig)
        parse_public(public.portal.key)
        return public
    except (InvalidKey, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidMessage(f"not a portal's config.json: {error}") from None


def _known_config_part(raw: Any, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name in kind.__struct_fields__}
