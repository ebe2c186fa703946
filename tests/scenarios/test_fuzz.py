"""scripts/fuzz: a short run of each coverage-guided fuzzer finds nothing."""

import asyncio
import os
import re
import sys

import pytest
from lib.paths import ROOT


@pytest.mark.parametrize("name", ["head", "messages"])
async def test_nothing_is_found_in_seconds(name: str) -> None:
    pytest.importorskip("atheris", reason="there is no wheel for this machine")
    process = await asyncio.create_subprocess_exec(
        *(ROOT / "scripts/fuzz", name, "--seconds", "3"),
        env=os.environ | {"PYTHON": sys.executable},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, out.decode() + err.decode()
    figures = re.search(r"(\d+) executions, 0 finds", out.decode())
    assert figures and int(figures[1]) > 100
