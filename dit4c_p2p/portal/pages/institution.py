"""What an institution puts on the login page: its words, its logo, a background, providers' icons.

Pictures are read once, at the portal's start, and served as the portal's own static files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.http.static_files import StaticFiles
from dit4c_p2p.portal.login.config import LoginConfig

_MAX_PICTURE_BYTES = 4 * 1024 * 1024
# What files of each kind begin with; an SVG is text.
_KINDS = {
    ".svg": (b"<",),
    ".png": (b"\x89PNG\r\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".webp": (b"RIFF",),
}
_STYLE = "institution.css"
_LOGO = "institution-logo"
_BACKGROUND = "institution-background"


@dataclass(frozen=True)
class Institution:
    """For the templates; URLs are empty where there is nothing.

    :ivar style: a style sheet of the institution's.
    """

    title: str
    paragraphs: Sequence[str]
    logo: str
    style: str


def institution_files(config: LoginConfig) -> dict[str, bytes]:
    """The institution's static files, by name.

    :raises ConfigError: a picture can't be read, or is none.
    """
    pictures = {_LOGO: config.logo, _BACKGROUND: config.background}
    for provider in config.providers:
        pictures[_icon_for_institution_page(provider.id)] = provider.icon
    files = {
        f"{name}{path.suffix.lower()}": _read_for_institution_page(path)
        for name, path in pictures.items()
        if path
    }
    for name in files:
        if name.startswith(_BACKGROUND):
            files = {
                **files,
                _STYLE: f'body.login {{ background-image: url("/static/{name}"); }}\n'.encode(),
            }
    return files


def show_institution_page(config: LoginConfig, static: StaticFiles) -> Institution:
    """What the login page shows of the institution."""
    paragraphs = [part.strip() for part in config.text.replace("\r", "").split("\n\n")]
    return Institution(
        title=config.title,
        paragraphs=[part for part in paragraphs if part],
        logo=_url_for_institution_page(static, _LOGO, config.logo),
        style=static.url(_STYLE) if _STYLE in static else "",
    )


def icon_url(config: LoginConfig, static: StaticFiles, provider: str) -> str:
    """A provider's icon; empty if it has none."""
    path = next((one.icon for one in config.providers if one.id == provider), None)
    return _url_for_institution_page(static, _icon_for_institution_page(provider), path)


def _icon_for_institution_page(provider: str) -> str:
    return f"provider-{provider}"


def _url_for_institution_page(static: StaticFiles, name: str, path: Path | None) -> str:
    return static.url(f"{name}{path.suffix.lower()}") if path else ""


def _read_for_institution_page(path: Path) -> bytes:
    starts = _KINDS.get(path.suffix.lower())
    if starts is None:
        raise ConfigError(
            f"{path} is no picture for a page", hint=f"it has to end in {', '.join(_KINDS)}"
        )
    try:
        with path.open("rb") as stream:
            body = stream.read(_MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the picture {path} can't be read: {error.strerror}",
            hint="the portal's user has to be able to read it",
        ) from None
    if len(body) > _MAX_PICTURE_BYTES:
        raise ConfigError(f"{path} is too large", hint="a picture has 4 MiB at most")
    if not body.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(starts):
        raise ConfigError(f"{path} is not what its name says", hint="save it in another format")
    return body
