"""How people reach a file server from their own machines; sizes and times in words. Pure."""

from datetime import UTC, datetime

from yarl import URL

from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.messages.public import FileServerInfo


def sftp_command(server: FileServerInfo, person: str) -> str:
    """The line that a person types to reach their files: ``sftp -P 2222 user-ada@host``."""
    url = URL(server.url)
    port = url.explicit_port
    option = f"-P {port} " if port not in (None, SSH_PORT) else ""
    return f"sftp {option}user-{person}@{url.host}"


def size_text(size_bytes: int) -> str:
    """A size for people: ``512 B``, ``1.5 KiB``, ``50 GiB``."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 100 or size == int(size) else f"{size:.1f} {unit}"


def moment_text(at: float) -> str:
    """Seconds since 1970 as ``21 Sep 2026, 10:00``, for a page."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%-d %b %Y, %H:%M}"
    except (OverflowError, OSError, ValueError):
        return "never"
