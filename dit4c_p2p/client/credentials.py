"""Which portals somebody is logged in to: ``~/.config/dit4c/credentials.json``, mode 0600."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
from yarl import URL

from dit4c_p2p.atomic_file import write_whole
from dit4c_p2p.client.errors import ClientError, NotLoggedIn
from dit4c_p2p.identity.portal_client import is_loopback_host

_MAX_BYTES = 256 * 1024
_LOG_IN = "run: dit4c login https://portal.example.org"


class SavedLogin(msgspec.Struct, frozen=True, kw_only=True):
    """One portal's token, and whose it is."""

    token: str
    person: str


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Every portal by its URL; ``default`` is the one that was logged in to last."""

    default: str = ""
    portals: dict[str, SavedLogin] = {}


def credentials_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where they are kept."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "dit4c" / "credentials.json"


def read_credentials(file: Path) -> Credentials:
    """What is kept; nothing if there is no file.

    :raises ClientError: others may read it, or it is something else.
    """
    try:
        with file.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return Credentials()
    if mode & 0o077:
        raise ClientError(
            f"others may read {file}, which holds tokens (mode {mode:04o})",
            hint=f"run: chmod 600 {file}; if somebody may have read it, log out and in again",
        )
    try:
        return msgspec.json.decode(content, type=Credentials)
    except msgspec.MsgspecError:
        raise ClientError(
            f"{file} is not what this program has written", hint="remove it and log in again"
        ) from None


def keep_login(file: Path, portal: str, login: SavedLogin) -> None:
    """Keep a portal's token; the portal is the default from now on."""
    known = read_credentials(file)
    _write_credentials(file, Credentials(default=portal, portals={**known.portals, portal: login}))


def forget_login(file: Path, portal: str) -> None:
    """Forget a portal's token; another portal becomes the default if there is one."""
    known = read_credentials(file)
    rest = {url: login for url, login in known.portals.items() if url != portal}
    default = known.default if known.default in rest else next(iter(rest), "")
    _write_credentials(file, Credentials(default=default, portals=rest))


def chosen_portal(
    given: str | None, file: Path, environ: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """The portal to ask and the token to ask it with.

    ``given`` counts before ``DIT4C_PORTAL``, and that before the portal logged in to last.
    ``DIT4C_TOKEN`` counts before a kept token.

    :raises NotLoggedIn: there is no portal, or no token for it.
    :raises ClientError: not a portal's URL.
    """
    known = read_credentials(file)
    url = given or environ.get("DIT4C_PORTAL") or known.default
    if not url:
        raise NotLoggedIn("you are not logged in to any portal", hint=_LOG_IN)
    portal = portal_url(url)
    token = environ.get("DIT4C_TOKEN") or ""
    if not token and portal in known.portals:
        token = known.portals[portal].token
    if not token:
        raise NotLoggedIn(f"you are not logged in to {portal}", hint=f"run: dit4c login {portal}")
    return portal, token


def portal_url(text: str) -> str:
    """A portal's URL as it is kept, of what somebody has typed.

    :raises ClientError: not one, or one where a token would go over the network unprotected.
    """
    try:
        url = URL(text if "://" in text else f"https://{text}")
        origin = url.origin()
    except ValueError:
        raise ClientError(
            f"{text[:80]!r} is not a portal's URL", hint="write https://portal.example.org"
        ) from None
    if url.scheme not in ("http", "https") or not url.host or url.user:
        raise ClientError(
            f"{text[:80]!r} is not a portal's URL", hint="write https://portal.example.org"
        )
    if url.scheme == "http" and not is_loopback_host(url.host):
        raise ClientError(
            f"{origin} would carry your token over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return str(origin)


def _write_credentials(file: Path, credentials: Credentials) -> None:
    write_whole(file, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
