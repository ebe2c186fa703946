"""Logging in from a terminal: a code that is confirmed in a browser (RFC 8628)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from dit4c_p2p.client.api import PortalApi
from dit4c_p2p.client.errors import NotLoggedIn, NotPossible, PortalNotReachable

_CLIENT_ID = "dit4c-cli"
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_SCOPES = "instances:read instances:write"
_LONGEST_S = 1800.0
# RFC 8628 section 3.5: what is added when the portal says slow_down.
_SLOWER_S = 5.0

Sleep = Callable[[float], Awaitable[None]]


async def device_login(
    api: PortalApi, show: Callable[[str, str, str], None], *, sleep: Sleep = asyncio.sleep
) -> str:
    """Log in; returns the token.

    :param show: called with the code, the page to open and the page with the code in it.
    :raises NotLoggedIn: it was refused in the browser, or took too long.
    :raises NotPossible: too many wait already.
    :raises Unreachable: the portal does not answer as one.
    """
    name = f"dit4c on {socket.gethostname()}"[:60]
    status, said = await api.form(
        "/oauth/device_authorization", client_id=_CLIENT_ID, scope=_SCOPES, name=name
    )
    if status == 429:
        raise NotPossible(str(said.get("detail", "too many programs wait")).rstrip("."))
    if status != 200 or not all(isinstance(said.get(key), str) for key in _NEEDED):
        raise PortalNotReachable(
            f"{api.url} does not let programs in by a code", hint="check the URL"
        )
    show(said["user_code"], said["verification_uri"], said["verification_uri_complete"])
    interval = _device_login_seconds(said.get("interval"), 5.0)
    try:
        async with asyncio.timeout(
            min(_device_login_seconds(said.get("expires_in"), 600.0), _LONGEST_S)
        ):
            return await _polled_device_token(api, said["device_code"], interval, sleep)
    except TimeoutError:
        raise NotLoggedIn("nobody has let it in in time", hint="log in again") from None


_NEEDED = ("device_code", "user_code", "verification_uri", "verification_uri_complete")


async def _polled_device_token(
    api: PortalApi, device_code: str, interval: float, sleep: Sleep
) -> str:
    while True:
        await sleep(interval)
        try:
            status, said = await api.form(
                "/oauth/token",
                grant_type=_GRANT_TYPE,
                device_code=device_code,
                client_id=_CLIENT_ID,
            )
        except PortalNotReachable:
            # A portal that starts again meanwhile still knows the code.
            continue
        token, error = said.get("access_token"), said.get("error")
        if status == 200 and isinstance(token, str):
            return token
        if error == "slow_down":
            interval += _SLOWER_S
        elif error != "authorization_pending" and status < 500:
            reason = str(said.get("error_description") or error or status)
            raise NotLoggedIn(f"not logged in: {reason}", hint="log in again")


def _device_login_seconds(value: Any, usual: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < _LONGEST_S else usual
