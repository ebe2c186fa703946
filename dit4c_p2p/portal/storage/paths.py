"""Where something is on the file page: names of any bytes, and their form in URLs and texts. Pure.

A path is the bytes of its names below the root that a person sees: ``private``, ``instances/<id>``,
``shared/<group>`` and what is below them.
"""

from dataclasses import dataclass
from typing import Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from dit4c_p2p.portal.errors import BadRequest

# Linux's limits; a server may have lower ones and says so.
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4096
_MAX_SHOWN_CHARS = 300


@dataclass(frozen=True)
class FilePath:
    """The names from the root down; none is the root itself."""

    names: tuple[bytes, ...] = ()

    @classmethod
    def from_url(cls, text: str) -> Self:
        """From the rest of a URL's raw path, percent-encoded; slashes at its ends don't count.

        :raises BadRequest: a part can't be a name.
        """
        parts = [part for part in text.split("/") if part]
        if len(text) > 3 * _MAX_PATH_BYTES:
            raise BadRequest("the path is too long")
        return cls(tuple(checked_name(unquote_to_bytes(part)) for part in parts))

    def child(self, name: bytes) -> "FilePath":
        """Something in this folder; ``name`` has been checked, or came from a server."""
        return FilePath((*self.names, name))

    @property
    def parent(self) -> "FilePath":
        """The folder that this is in; the root's is the root."""
        return FilePath(self.names[:-1])

    @property
    def name(self) -> bytes:
        """Its own name; empty for the root."""
        return self.names[-1] if self.names else b""

    @property
    def url(self) -> str:
        """For a URL's path, without slashes at its ends."""
        return "/".join(quote_from_bytes(name, safe="") for name in self.names)

    @property
    def remote(self) -> bytes:
        """As the file server is asked for it."""
        return b"/" + b"/".join(self.names)

    @property
    def text(self) -> str:
        """For people and for the audit log, on one line."""
        return "/" + "/".join(shown_name(name) for name in self.names)[:_MAX_SHOWN_CHARS]


def checked_name(name: bytes) -> bytes:
    """One name.

    :raises BadRequest: none, a dot or two, a slash or a zero byte in it, or too long.
    """
    if not name or name in (b".", b".."):
        raise BadRequest("this can't be a name", field="name", hint="choose another one")
    if b"/" in name or b"\0" in name:
        raise BadRequest("a name has no slash and no zero byte in it", field="name")
    if len(name) > _MAX_NAME_BYTES:
        raise BadRequest(
            f"a name may have {_MAX_NAME_BYTES} bytes", field="name", hint="choose a shorter one"
        )
    return name


def shown_name(name: bytes) -> str:
    """A name as text; what is no UTF-8, or can't be seen, is replaced."""
    text = name.decode(errors="replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def form_name(name: bytes) -> str:
    """A name as a form's hidden field carries it; :func:`name_of_form` is its inverse."""
    return quote_from_bytes(name, safe="")


def name_of_form(text: str) -> bytes:
    """The name in a form's hidden field.

    :raises BadRequest: it is none.
    """
    return checked_name(unquote_to_bytes(text))
