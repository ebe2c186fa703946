"""Where no engine answers, one is started."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

import dit4c_p2p

pytestmark = [
    pytest.mark.engine,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("dockerd") is None,
        reason="only root can start an engine, which has to be installed",
    ),
]


async def test_a_daemon_is_started_and_outlives_the_one_who_started_it(tmp_path: Path) -> None:
    script = Path(__file__).with_name("start_engine.sh")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")
    }
    environment["PYTHONPATH"] = str(Path(dit4c_p2p.__file__).parent.parent)
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", str(script), sys.executable, str(tmp_path)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out.decode().strip() == "ended", err.decode()
    assert err.decode().count("Docker engine: starting") == 1
    assert (tmp_path / "first").read_text().strip().isdigit()
