"""security.md section 3: the audit of each SSH server shows no failure."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest
from systems.fileserver import running_file_server
from systems.node import a_node
from systems.router import a_house

from dit4c_p2p.router import Limits


def program() -> str:
    """ssh-audit, beside this Python or on the path."""
    beside = Path(sys.executable).parent / "ssh-audit"
    found = str(beside) if beside.exists() else shutil.which("ssh-audit")
    assert found is not None, "ssh-audit is missing: the extra 'test' has it"
    return found


async def audit(port: int) -> None:
    """Audit what listens on a port of this machine."""
    process = await asyncio.create_subprocess_exec(
        *(program(), "--json", "--port", str(port), "--timeout", "10"),
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


async def test_the_audit_of_a_router_shows_no_failure(tmp_path):
    async with a_house(tmp_path, Limits()) as house:
        await audit(house.router.ssh_port)


async def test_the_audit_of_a_file_server_shows_no_failure(tmp_path):
    async with running_file_server(tmp_path) as system:
        await audit(system.server.port)


async def test_the_audit_of_a_node_shows_no_failure(tmp_path):
    """It listens in the overlay only: a port of this machine leads there, as its scheduler."""
    async with a_house(tmp_path, Limits()) as house, a_node(house) as node:
        beneath = await node.streams()
        async with await beneath.forward_local_port("127.0.0.1", 0, "node-main", 22) as port:
            await audit(port.get_port())


def test_a_missing_program_is_no_pass(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(AssertionError, match="the extra 'test' has it"):
        program()
