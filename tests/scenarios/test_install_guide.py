"""docs/install.md says nothing that the program does not understand."""

import re
import shlex
from pathlib import Path

import pytest
from lib.paths import ROOT

from dit4c_p2p.cli import main
from dit4c_p2p.settings import KINDS, read

PAGE = (ROOT / "docs" / "install.md").read_text()
FILES = dict(re.findall(r"```toml\n# /etc/dit4c/(\w+)\.toml\n(.*?)```", PAGE, flags=re.S))


def test_there_is_a_file_for_each_component():
    assert FILES.keys() == KINDS.keys()
    assert "@@" not in PAGE


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_passes(kind, tmp_path):
    file = tmp_path / f"{kind}.toml"
    file.write_text(FILES[kind])
    settings = read(KINDS[kind], kind, file, {})
    assert settings.data_folder == Path(f"/var/lib/dit4c-{kind}")


def test_the_files_agree_with_each_other(tmp_path):
    settings = {}
    for kind, text in FILES.items():
        file = tmp_path / f"{kind}.toml"
        file.write_text(text)
        settings[kind] = read(KINDS[kind], kind, file, {})
    portal = settings["portal"]
    for kind in ("scheduler", "router", "node"):
        assert settings[kind].portal.url == portal.url
        assert settings[kind].portal.key == settings["node"].portal.key
    assert [str(settings["router"].name)] == [entry.info.name for entry in portal.routers]
    assert settings["node"].id in settings["scheduler"].nodes
    assert settings["node"].scheduler == settings["scheduler"].id == portal.scheduler


def commands():
    """Every ``dit4c`` command of the page, as words."""
    found = set()
    for line in PAGE.replace("\\\n", " ").splitlines():
        for text in re.findall(r"`(dit4c [^`]+)`", line) or [line.removeprefix("# ")]:
            words = shlex.split(text, comments=True) if text.count("'") % 2 == 0 else []
            if words[:1] == ["runuser"]:
                words = words[4:]
            if words[:1] == ["dit4c"]:
                found.add(tuple(words[1:]))
    return sorted(found)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_is_one(words, capsys):
    known = [word for word in words if not word.isupper() and not word.startswith(("-", "/"))][:2]
    with pytest.raises(SystemExit) as ended:
        main([*known, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word in said


def test_commands_are_found():
    assert len(commands()) > 10


def test_the_files_that_it_copies_are_there():
    for pattern in re.findall(r"/usr/src/dit4c/(docs/[\w./*-]+)", PAGE):
        assert list(ROOT.glob(pattern)), pattern
