"""A plain Debian, from wherever this machine can get it."""

import os
from pathlib import Path

import aiodocker
import pytest

from dit4c_p2p.imagebuild.debian import ensure_debian

pytestmark = [
    pytest.mark.engine,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap needs root"),
]


async def test_it_is_made_once_and_nothing_is_left_behind(
    docker: aiodocker.Docker, repository: str, tmp_path: Path
) -> None:
    told: list[str] = []
    architecture = os.uname().machine
    ids = [
        await ensure_debian(
            docker,
            f"{repository}/debian:local",
            architecture,
            tmp_path,
            lambda step, detail: told.append(detail),
        )
        for _ in range(2)
    ]
    assert ids[0] == ids[1]
    assert told.count("ready") == 1
    image = await docker.images.inspect(ids[0])
    assert image["Size"] < 150_000_000
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
