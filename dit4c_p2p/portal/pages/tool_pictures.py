"""Pictures of tools, from a folder: ``NAME.png`` or ``NAME.webp`` for the tool of that name.

They are read once, at the portal's start, and served as the portal's own static files: under a name
with a hash, as the type that their content is, and with a policy that lets them load nothing.
"""

from pathlib import Path

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.http.static_files import StaticFiles

_MAX_BYTES = 64 * 1024
_MAX_FILES = 500
# What a file of each kind begins with (PNG section 5.2; RFC 9649 section 2.4). No SVG: it is a
# document, and could hold scripts.
_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = (".png", ".webp")


def tool_picture_files(folder: Path | None) -> dict[str, bytes]:
    """The static files of a folder with pictures, by name; none without a folder.

    :raises ConfigError: the folder can't be read, or a picture in it is none, or too large.
    """
    if folder is None:
        return {}
    try:
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _KINDS]
        if len(paths) > _MAX_FILES:
            raise ConfigError(f"{folder} has {len(paths)} pictures", hint=f"at most {_MAX_FILES}")
        return {_static_name(path.stem, path.suffix.lower()): _picture(path) for path in paths}
    except OSError as error:
        raise ConfigError(
            f"the pictures of tools can't be read: {error.filename}: {error.strerror}",
            hint="the portal's user has to be able to read the folder",
        ) from None


def tool_picture_url(static: StaticFiles, tool: str) -> str:
    """Where a tool's picture is; empty if it has none."""
    names = (_static_name(tool, suffix) for suffix in _KINDS)
    return next((static.url(name) for name in names if name in static), "")


def _static_name(tool: str, suffix: str) -> str:
    return f"tool-{tool}{suffix}"


def _picture(path: Path) -> bytes:
    with path.open("rb") as file:
        body = file.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        raise ConfigError(f"the picture {path} is too large", hint="64 KiB at most")
    webp = body[:4] == b"RIFF" and body[8:12] == b"WEBP"
    if not (webp if path.suffix.lower() == ".webp" else body.startswith(_PNG)):
        raise ConfigError(f"{path} is not what its name says", hint="save it as PNG or WebP")
    return body
