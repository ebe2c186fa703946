"""Requests to identity providers: short, small and to where the configuration says only."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from dit4c_p2p.portal.login.identity import ProviderDown, ProviderNonsense

_log = logging.getLogger(__name__)

# All requests of one step; somebody is waiting for the page meanwhile.
STEP_S = 10.0
# A provider's key set has a few KiB, a person with a thousand groups some 100.
_MAX_ANSWER_BYTES = 512 * 1024


class _TooLarge(httpx2.TransportError):
    """The answer has no end in sight."""


class _BoundedProviderBody(httpx2.AsyncByteStream):
    """An answer's body that ends at a limit."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._body:
            size += len(chunk)
            if size > _MAX_ANSWER_BYTES:
                raise _TooLarge("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        """End it."""
        await self._body.aclose()


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedProviderBody(response.stream)
        return response


@asynccontextmanager
async def provider_client(
    name: str, client_id: str, client_secret: str, **more: Any
) -> AsyncIterator[AsyncOAuth2Client]:
    """Authlib's client for one step of logging in, which ends after :data:`STEP_S`.

    :param name: the provider's, for its errors.
    :raises ProviderDown: it can't be reached, is too slow, or fails.
    :raises ProviderNonsense: it answers with something else than the protocol says.
    """
    client = AsyncOAuth2Client(
        client_id,
        client_secret or None,
        code_challenge_method="S256",
        # Never through a proxy of the environment's: secrets go this way.
        trust_env=False,
        follow_redirects=False,
        timeout=STEP_S,
        transport=_BoundedTransport(),
        **more,
    )
    try:
        async with asyncio.timeout(STEP_S), client:
            yield client
    except _TooLarge as error:
        raise ProviderNonsense(name, str(error)) from None
    except (httpx2.TransportError, httpx2.HTTPStatusError, TimeoutError) as error:
        _log.warning("provider %s: %s: %s", name, type(error).__name__, error)
        raise ProviderDown(name) from None
    except (AuthlibBaseError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise ProviderNonsense(name, f"{type(error).__name__}: {error}") from None


async def read_provider_object(
    client: AsyncOAuth2Client, name: str, url: str, **more: Any
) -> dict[str, Any]:
    """The JSON object at a URL of the provider's.

    :raises ProviderDown: it answers with an error of its own (5xx).
    :raises ProviderNonsense: it answers with something else.
    """
    found = await read_provider_json(client, name, url, **more)
    if not isinstance(found, dict):
        raise ProviderNonsense(name, f"{_provider_place(url)} is no JSON object")
    return found


async def read_provider_json(client: AsyncOAuth2Client, name: str, url: str, **more: Any) -> Any:
    """:func:`read_provider_object` for any JSON."""
    response = await client.request("GET", url, **more)
    if response.status_code >= 500:
        _log.warning("provider %s: %s answers %s", name, _provider_place(url), response.status_code)
        raise ProviderDown(name)
    if response.status_code != 200:
        raise ProviderNonsense(name, f"{_provider_place(url)} answers {response.status_code}")
    try:
        return json.loads(response.content)
    except ValueError:
        raise ProviderNonsense(name, f"{_provider_place(url)} is no JSON") from None


def _provider_place(url: str) -> str:
    return url.split("?", 1)[0]
