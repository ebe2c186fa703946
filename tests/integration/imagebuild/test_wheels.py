"""Wheels on a disk that has no room for them."""

import os
import zipfile
from pathlib import Path

import pytest
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.imagebuild import DiskFull
from dit4c_p2p.imagebuild.wheels import ensure_wheels

pytestmark = ONLY_ROOT


async def test_a_full_disk_is_called_so_and_nothing_is_left_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", os.urandom(256 * 1024))
        wheel.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tiny\n")

    with SmallDisk(tmp_path / "small", size="64k") as disk:
        with pytest.raises(DiskFull, match="the disk is full"):
            await ensure_wheels(requirements, "x86_64", disk.folder, lambda *it: None, "step")
        assert list((disk.folder / "wheels").iterdir()) == []
