"""What each module is about, as docs/architecture.md lists it.

``PYTHONPATH=tests python tests/lib/module_map.py --write`` brings the page up to date.
"""

import ast
import re
import sys
from pathlib import Path

from lib.paths import ROOT

PACKAGE = ROOT / "dit4c_p2p"
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN = "<!-- modules: PYTHONPATH=tests python tests/lib/module_map.py --write -->\n"
_END = "<!-- end of modules -->\n"


def module_lines() -> str:
    """A list for each package: its modules with the first sentence of their docstrings."""
    lines: list[str] = []
    for folder in sorted({file.parent for file in PACKAGE.rglob("*.py")}):
        modules = [
            f"- `{file.stem}`: {_subject(file)}"
            for file in sorted(folder.glob("*.py"))
            if not file.name.startswith("__") and folder.name != "migrations"
        ]
        if modules:
            lines += ["", f"**{folder.relative_to(ROOT)}/**", "", *modules]
    return "\n".join([*lines[1:], ""])


def page_with_modules(page: str) -> str:
    """The page's text with the list as it has to be."""
    before, _, rest = page.partition(_BEGIN)
    return before + _BEGIN + "\n" + module_lines() + "\n" + _END + rest.partition(_END)[2]


def _subject(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = paragraph.partition(". ")[0].removesuffix(".")
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", sentence).replace("``", "`")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    PAGE.write_text(page_with_modules(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
