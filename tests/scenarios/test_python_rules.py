"""What works with a newer Python than the oldest that is promised."""

import ast
from pathlib import Path

import pytest

import dit4c_p2p

FILES = sorted(Path(dit4c_p2p.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize(
    "file", [file for file in FILES if "except*" in file.read_text()], ids=lambda file: file.stem
)
def test_nothing_is_raised_in_except_star(file):
    """Debian 12's Python 3.11.2 makes a group of it, which nobody catches; 3.11.4 does not."""
    for tree in ast.walk(ast.parse(file.read_text())):
        if isinstance(tree, ast.TryStar):
            for handler in tree.handlers:
                raised = [node for node in ast.walk(handler) if isinstance(node, ast.Raise)]
                assert not raised, f"{file}:{raised[0].lineno}"
