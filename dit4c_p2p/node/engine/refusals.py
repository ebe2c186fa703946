"""The engine's refusals, sorted: is the image at fault, the machine, or may it pass? Pure.

The engine's words name folders of its machine and hold whatever an image's maker has written. A
user is told sentences of our own, with at most a name out of the image; the words are for the log.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

_MAX_NAME_CHARS = 80


class RefusalFault(Enum):
    """Whose it is. ``PASSING``: nothing says that the same would be refused again."""

    IMAGE = auto()
    MACHINE = auto()
    PASSING = auto()


@dataclass(frozen=True)
class Refusal:
    """``text`` is a sentence for the instance's user, ``hint`` what to do; empty for PASSING."""

    fault: RefusalFault
    text: str = ""
    hint: str = ""


_FIX_IMAGE = "whoever made the image has to change it"
_FIX_MACHINE = "its owner finds in its log what to do; try another tool or another machine"
_MACHINE_TEXT = "the machine it was to run on can't start it"

# In this order; {} is what the pattern found in the image.
_IMAGE = (
    (r"no command specified", "the image does not say which program to start"),
    (
        r'exec: \\?"([^"\\]*)\\?": (?:stat [^:]*: no such file|executable file not found)',
        "the image's program {} is not in the image",
    ),
    (
        r'exec: \\?"([^"\\]*)\\?": (?:permission denied|is a directory)',
        "the image's program {} can't be executed",
    ),
    (r"exec format error", "the image's program is not made for this kind of machine"),
    (r"unable to find (?:user|group) ([^:\s]+)", "the image's user {} is not known in the image"),
    (r"no users found|unable to setup user|invalid user", "the image's user can't be set up"),
    (
        r'error mounting "[^"]*" to rootfs at "([^"]*)"',
        "the image declares a volume at {}, where there can't be one",
    ),
    (
        r"mount config for type|mount path|mount point|invalid (?:volume|mount)|destination can",
        "the image declares a volume at a place where there can't be one",
    ),
    (
        r"cannot mkdir|is not a directory|: not a directory|chdir to cwd|working directory",
        "the image's working directory can't be used",
    ),
)
_MACHINE = (
    r"range of cpus|minimum memory limit|unknown (?:or invalid )?runtime|seccomp|apparmor|selinux"
    r"|cgroup|pids? limit|kernel does not support|not supported|operation not permitted"
    r"|read-only file system|input/output error|exec: \\?\"runc|shim.*not found|no such image"
)
# The engine's status for a request that would be refused again as it is.
_BAD_REQUEST = 400


def sort_engine_refusal(words: str, status: int = 500) -> Refusal:
    """Whose fault it is that an app's container was not made or not started.

    :param words: the engine's message.
    :param status: its HTTP status.
    """
    for pattern, text in _IMAGE:
        if found := re.search(pattern, words, re.IGNORECASE):
            name = repr(_shown_image_name(found[1])) if found.groups() else ""
            return Refusal(RefusalFault.IMAGE, text.format(name), _FIX_IMAGE)
    if re.search(_MACHINE, words, re.IGNORECASE):
        return Refusal(RefusalFault.MACHINE, _MACHINE_TEXT, _FIX_MACHINE)
    if status == _BAD_REQUEST:
        text = "the image asks for something that no container can have"
        return Refusal(RefusalFault.IMAGE, text, _FIX_IMAGE)
    return Refusal(RefusalFault.PASSING)


def _shown_image_name(name: str) -> str:
    """A name out of an image, short and without control characters."""
    plain = "".join(one if one.isprintable() else "?" for one in name)
    return plain if len(plain) <= _MAX_NAME_CHARS else f"{plain[:_MAX_NAME_CHARS]}…"
