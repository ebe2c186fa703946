"""Which modules go into a helper's image."""

from pathlib import Path

import pytest

import dit4c_p2p
from dit4c_p2p.imagebuild.closure import MissingModule, files_needed_by_program
from dit4c_p2p.imagebuild.recipes import RECIPES

PACKAGES = Path(dit4c_p2p.__file__).parent.parent
PROGRAMS = [recipe.program for recipe in RECIPES if recipe.program is not None]


def write(root: Path, **files: str) -> Path:
    """A package tree; ``__`` in a name stands for a folder."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in [root / "top", *(p for p in (root / "top").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    return root


def test_follows_every_form_of_import(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        top__program=(
            "import os, top.plain\n"
            "from top import named\n"
            "from top.sub import attribute\n"
            "from . import sibling\n"
            "def later():\n    from top.lazy import thing\n"
        ),
        top__plain="from top.deep import x",
        top__deep="",
        top__named="",
        top__sub__inner="",
        top__sibling="",
        top__lazy="",
        top__stranger="",
    )
    assert files_needed_by_program("top.program", root) == (
        "top/__init__.py",
        "top/deep.py",
        "top/lazy.py",
        "top/named.py",
        "top/plain.py",
        "top/program.py",
        "top/sibling.py",
        "top/sub/__init__.py",
    )


def test_follows_relative_imports_out_of_a_package(tmp_path: Path) -> None:
    root = write(tmp_path, top__sub__inner="from ..other import x", top__other="", top__sub__b="")
    (root / "top/sub/__init__.py").write_text("from .inner import x")
    assert files_needed_by_program("top.sub", root) == (
        "top/__init__.py",
        "top/other.py",
        "top/sub/__init__.py",
        "top/sub/inner.py",
    )


def test_a_package_runs_its_main_and_brings_its_pages(tmp_path: Path) -> None:
    root = write(tmp_path, top__tool____main____="", top__other="")
    (root / "top/tool/__main__.py").write_text("import top.other")
    (root / "top/tool/page.html").touch()
    (root / "top/tool/__pycache__").mkdir()
    (root / "top/tool/__pycache__/x.pyc").touch()
    assert files_needed_by_program("top.tool", root) == (
        "top/__init__.py",
        "top/other.py",
        "top/tool/__init__.py",
        "top/tool/__main__.py",
        "top/tool/page.html",
    )


def test_leaves_out_what_only_a_type_checker_reads(tmp_path: Path) -> None:
    source = (
        "import typing\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import top.typed\nelse:\n    import top.real\n"
        "if typing.TYPE_CHECKING:\n    from top import typed\n"
    )
    root = write(tmp_path, top__program=source, top__typed="", top__real="")
    assert "top/typed.py" not in files_needed_by_program("top.program", root)
    assert "top/real.py" in files_needed_by_program("top.program", root)


def test_circles_end(tmp_path: Path) -> None:
    root = write(tmp_path, top__a="import top.b", top__b="import top.a")
    assert files_needed_by_program("top.a", root) == ("top/__init__.py", "top/a.py", "top/b.py")


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, top__program="import top.gone")
    with pytest.raises(MissingModule, match=r"top\.gone"):
        files_needed_by_program("top.program", root)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_helper_needs_no_component(program: str) -> None:
    needed = files_needed_by_program(program, PACKAGES)
    allowed = {"identity", "overlay", "messages", "helpers", "net"}
    allowed |= {"oci"} if program.endswith("upload") else set()
    allowed |= {"sftp"} if program.endswith("storage") else set()
    folders = {name.split("/")[1] for name in needed if name.count("/") > 1}
    assert folders <= allowed
    of_the_net = {name.rpartition("/")[2] for name in needed if name.split("/")[1] == "net"}
    small = {"http1.py", "large_head.py", "proxy_protocol.py", "reset.py", "stranger_log.py"}
    assert of_the_net <= small | {"__init__.py"}
