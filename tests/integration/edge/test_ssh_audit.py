"""security.md section 3: the audit of the router's SSH side shows no failure."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest
from support.router_house import a_house

from dit4c_p2p.router import Limits


def program() -> str:
    """ssh-audit, beside this Python or on the path."""
    beside = Path(sys.executable).parent / "ssh-audit"
    found = str(beside) if beside.exists() else shutil.which("ssh-audit")
    if found is None:
        pytest.skip("ssh-audit is not installed (the extra 'test' has it)")
    return found


async def test_the_audit_shows_no_failure(tmp_path):
    async with a_house(tmp_path, Limits()) as house:
        process = await asyncio.create_subprocess_exec(
            *(program(), "--json", "--port", str(house.router.ssh_port), "--timeout", "10"),
            "127.0.0.1",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    assert output, errors.decode()
    report = json.loads(output)
    notes = [
        (kind, one["algorithm"], one["notes"].get("fail", []))
        for kind in ("kex", "key", "enc", "mac")
        for one in report[kind]
    ]
    assert len(notes) >= 8, "it has seen the algorithms"
    assert [note for note in notes if note[2]] == []
    assert report.get("cves", []) == []
    assert not report.get("recommendations", {}).get("critical")
