"""Commented example files, written from the declarations.

A required setting has an example; an optional one is commented out and shows its default.
"""

import inspect
import textwrap
from collections.abc import Iterator

from dit4c_p2p.settings.declare import (
    REQUIRED,
    Section,
    Setting,
    Settings,
    declared_parts,
    environment_variable,
)
from dit4c_p2p.settings.read import KIND

_COLUMNS = 100
_READING = (
    "A line that begins with # is a comment; a setting that is commented out shows its default. A "
    "variable of the environment goes over each, such as {} over level in [log]. Lengths of time "
    "have a unit (s, min, h, d), amounts of memory too (MiB, GiB); addresses are host:port or "
    "[IPv6]:port; ids have 1 to 40 of a-z, 0-9 and -."
)


def example(settings: type[Settings], kind: str) -> str:
    """Return a whole file for the component ``kind``, with a final line end."""
    lines = [
        *_example_comment(inspect.cleandoc(settings.__doc__ or "")),
        "#",
        *_example_comment(_READING.format(environment_variable(("log", "level")))),
        *_example_comment(f"Check it: dit4c config check {kind} FILE"),
        "",
        f'{KIND} = "{kind}"',
        "",
        *_example_body(settings, (), ""),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _example_body(settings: type[Settings], path: tuple[str, ...], hidden: str) -> Iterator[str]:
    """Yield the settings of one table, then its own tables; ``hidden`` is put before each."""
    declared = declared_parts(settings)
    for name, part in declared:
        if isinstance(part, Setting):
            yield from _example_setting(name, part, hidden)
    for name, part in declared:
        if isinstance(part, Section):
            inner = (*path, name)
            yield from _example_comment(part.meaning)
            brackets = "[[{}]]" if part.many else "[{}]"
            # A table without its settings is no table of no settings: the heading stays.
            outside = "" if part.shown or not part.many else "#"
            yield outside + brackets.format(".".join(inner))
            yield from _example_body(part.settings, inner, outside)


def _example_setting(name: str, part: Setting, hidden: str) -> Iterator[str]:
    yield from _example_comment(f"{part.meaning} {part.value.form}".strip())
    shown = part.default if part.example is REQUIRED else part.example
    off = hidden or ("" if part.required or part.shown else "#")
    if shown is REQUIRED:
        raise TypeError(f"{name} has neither a default nor an example")
    remark = "" if not off or shown is part.default else "  # for example"
    yield f"{off}{name} = {part.value.write(shown)}{remark}"
    yield ""


def _example_comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(
            " ".join(paragraph.split()), _COLUMNS, initial_indent="# ", subsequent_indent="# "
        )
