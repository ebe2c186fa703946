"""docs/install.md as a newcomer reads it: sections, files to write, commands to type."""

import re
from dataclasses import dataclass

from lib.paths import ROOT

PAGE = ROOT / "docs" / "install.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_HEREDOC = re.compile(r"<<'(\w+)'")


@dataclass(frozen=True)
class Typed:
    """A command at the prompt ``# ``, and what the page says that it prints."""

    command: str
    shown: tuple[str, ...] = ()

    def check(self, printed: str) -> None:
        """That the shown lines were printed; a word that ends in an ellipsis stands for any."""
        for line in self.shown:
            if line == "…":
                continue
            words = (r"\S+" if word.endswith("…") else re.escape(word) for word in line.split())
            assert re.search("^" + r"\s+".join(words) + "$", printed, re.M), (line, printed)


class Section:
    """What is below one heading."""

    def __init__(self, text: str) -> None:
        blocks = _BLOCK.findall(text)
        self.plain = [body for language, body in blocks if not language]
        # By their first line, which is a comment with their path.
        self.files = {body.split()[1]: body for language, body in blocks if language == "toml"}
        self.consoles = [typed(body) for language, body in blocks if language == "console"]

    @property
    def commands(self) -> list[Typed]:
        """All of them in order."""
        return [one for console in self.consoles for one in console]


def typed(console: str) -> list[Typed]:
    """The commands of a block; those of several lines go on after a backslash or in a heredoc."""
    found: list[Typed] = []
    lines = iter(console.splitlines())
    for line in lines:
        if not line.startswith("# "):
            before = found.pop()
            found.append(Typed(before.command, (*before.shown, line)))
            continue
        command = line.removeprefix("# ")
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if end := _HEREDOC.search(command):
            while not command.endswith("\n" + end[1]):
                command += "\n" + next(lines)
        found.append(Typed(command))
    return found


def sections() -> dict[str, Section]:
    """By their headings, without numbers."""
    parts = re.split(r"^## (?:\d+\. )?(.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], map(Section, parts[2::2]), strict=True))
