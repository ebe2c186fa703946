"""Wheels are downloaded once, by the pip of this machine."""

import zipfile
from pathlib import Path

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.wheels import ensure_wheels, platform_tags

METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel in it, which is all that pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wanted(folder: Path, text: str) -> Path:
    image = folder / "gizmo"
    image.mkdir()
    path = image / "requirements.txt"
    path.write_text(text)
    return path


async def test_downloaded_once_and_kept(tmp_path: Path, index: Path) -> None:
    requirements = wanted(tmp_path, "tiny\n")
    told: list[tuple[str, str]] = []
    for _ in range(2):
        folder = await ensure_wheels(
            requirements, "x86_64", tmp_path / "cache", lambda *it: told.append(it), "step"
        )
        assert [path.name for path in folder.iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    assert told[0] == ("step", "downloading wheels")
    assert told.count(("step", "downloading wheels")) == 1


async def test_other_requirements_and_machines_have_other_folders(
    tmp_path: Path, index: Path
) -> None:
    requirements = wanted(tmp_path, "tiny\n")
    folders = set()
    for text, machine in (("tiny\n", "x86_64"), ("tiny\n", "aarch64"), ("tiny>=1\n", "x86_64")):
        requirements.write_text(text)
        folders.add(
            await ensure_wheels(requirements, machine, tmp_path / "cache", lambda *it: None, "")
        )
    assert len(folders) == 3


async def test_what_can_not_be_had_is_named_and_nothing_is_left(
    tmp_path: Path, index: Path
) -> None:
    requirements = wanted(tmp_path, "tiny>=2\n")
    with pytest.raises(ConfigError, match=r"gizmo image.*tiny>=2") as failed:
        await ensure_wheels(requirements, "x86_64", tmp_path / "cache", lambda *it: None, "")
    assert "package index" in failed.value.hint
    assert list((tmp_path / "cache/wheels").iterdir()) == []


def test_the_platforms_are_those_that_debian_12_runs() -> None:
    tags = platform_tags("aarch64")
    assert tags[0] == "manylinux_2_36_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= {*tags}
    assert tags[-1] == "any"
