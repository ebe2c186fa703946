"""One command's way to a portal: which one, with which token, and where the results go."""

import contextlib
import os
import shutil
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dit4c_p2p.client.api import PortalApi, portal_api, url_path_part
from dit4c_p2p.client.credentials import (
    SavedLogin,
    chosen_portal,
    credentials_file,
    forget_login,
    keep_login,
    portal_url,
    read_credentials,
)
from dit4c_p2p.client.device_login import device_login
from dit4c_p2p.client.errors import ClientError, NotLoggedIn
from dit4c_p2p.client.output import CommandOutput, printable_in_terminal


@dataclass(frozen=True)
class RemotePortal:
    """A portal as one command uses it."""

    api: PortalApi
    output: CommandOutput


@asynccontextmanager
async def remote_portal(given: str | None, form: str) -> AsyncIterator[RemotePortal]:
    """The portal that a command means; see :func:`chosen_portal`.

    :param form: of the output, ``text`` or ``json``.
    """
    url, token = chosen_portal(given, credentials_file())
    async with portal_api(url, token) as api:
        yield RemotePortal(api, CommandOutput(form))


async def log_in_to_portal(given: str | None, *, browser: bool) -> None:
    """Log in to a portal and keep the token.

    :param browser: whether to open the page in this machine's browser.
    """
    file, output = credentials_file(), CommandOutput("text")
    known = read_credentials(file)
    url = given or os.environ.get("DIT4C_PORTAL") or known.default
    if not url:
        raise NotLoggedIn("which portal?", hint="run: dit4c login https://portal.example.org")
    url = portal_url(url)

    def show(code: str, page: str, page_with_code: str) -> None:
        output.note(f"Open {page} in a browser where you are logged in, and type the code")
        output.note(f"\n    {printable_in_terminal(code)}\n")
        if browser and open_browser(page_with_code):
            output.note("A browser has been opened for it: compare the code there.")
        output.note("Waiting for you …")

    async with portal_api(url, "") as api:
        token = await device_login(api, show)
    async with portal_api(url, token) as api:
        who = await api.get("whoami")
    keep_login(file, url, SavedLogin(token=token, person=str(who["id"])))
    earlier = known.portals.get(url)
    if earlier is not None:
        await _end_portal_token(url, earlier)
    output.note(f"Logged in to {url} as {printable_in_terminal(str(who['id']))}.")


async def log_out_of_portal(given: str | None) -> None:
    """End the kept token of a portal, and forget it in any case."""
    file, output = credentials_file(), CommandOutput("text")
    known = read_credentials(file)
    url = given or os.environ.get("DIT4C_PORTAL") or known.default
    url = portal_url(url) if url else ""
    login = known.portals.get(url)
    if login is None:
        raise NotLoggedIn(f"you are not logged in to {url or 'any portal'}")
    ended = await _end_portal_token(url, login)
    forget_login(file, url)
    output.note(f"Logged out of {url}.")
    if not ended:
        output.note("The portal could not be told: revoke the token on your account page.")


async def _end_portal_token(url: str, login: SavedLogin) -> bool:
    """Have a token count no more; whether that is sure."""
    try:
        async with portal_api(url, login.token) as api:
            await api.post(f"people/{url_path_part(login.person)}/tokens/current/revoke")
    except NotLoggedIn:
        return True
    except ClientError:
        return False
    return True


def open_browser(url: str) -> bool:
    """Open a page in this machine's browser, if somebody sits there who would see it."""
    seen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER")
    )
    if not url.startswith(("https://", "http://")):
        return False
    if not seen or (not os.environ.get("BROWSER") and shutil.which("xdg-open") is None):
        return False
    with contextlib.suppress(webbrowser.Error):
        return webbrowser.open(url)
    return False
