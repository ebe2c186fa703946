"""Stock OpenSSH against the running system, with keys enrolled by the command line."""

import re
import subprocess
import time

import asyncssh
import pytest
from systems.all_in_one import dit4c

pytestmark = pytest.mark.engine


@pytest.fixture
def known_hosts(system, tmp_path):
    """What ``/known_hosts`` serves, in a file."""
    file = tmp_path / "known_hosts"
    url = f"{system.access['portal']}/known_hosts"
    subprocess.run(["curl", "-sSf", "-m", "10", "-o", file, url], check=True, timeout=20)
    return file


def new_key(folder, name="key"):
    file = folder / name
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(file)]
    subprocess.run(make, check=True, timeout=20)
    return file


def enrol(system, kind, id, key, *more):
    """``dit4c key add`` with what the ready file says."""
    portal, token = system.access["portal"], system.access["api_token"]
    return dit4c("key", "add", kind, id, key, *more, "--portal", portal, token=token)


def ssh(system, name, key, known_hosts, *forward):
    host, port = system.access["router_ssh"].rsplit(":", 1)
    return [
        *("ssh", "-N", "-F", "none", "-p", port, "-i", str(key)),
        *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes"),
        *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=none"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes"),
        *("-o", "ConnectTimeout=10", "-v"),
        *forward,
        f"{name}@{host}",
    ]


def run_until(command, words, timeout=20):
    """Start ssh and wait for words of its ``-v`` output."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen = []
    deadline = time.monotonic() + timeout
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return process
        if time.monotonic() > deadline:
            break
    process.kill()
    raise AssertionError("".join(seen))


async def test_reverse_forward_by_name_and_revocation_of_its_live_tunnel(
    system, tmp_path, known_hosts
):
    key = new_key(tmp_path)
    done = enrol(system, "node", "lab", key, "--scheduler", "main")
    assert done.returncode == 0, done.stderr
    fingerprint = re.search(r"Published (\S+) for node-lab", done.stdout)[1]

    forward = ("-R", "node-lab:22:127.0.0.1:9")
    command = ssh(system, "node-lab", key, known_hosts, *forward)
    tunnel = run_until(command, "remote forward success")
    try:
        async with system.api() as api:
            held = [k for k in await api.call("GET", "keys") if k["fingerprint"] == fingerprint]
            assert len(held) == 1
            began = time.monotonic()
            await api.call("POST", f"keys/{fingerprint}/revoke")
        tunnel.wait(timeout=10)
        assert time.monotonic() - began <= 10
    finally:
        tunnel.kill()
        tunnel.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert again.returncode == 255
    assert "Permission denied" in again.stderr
    # The same key can't be brought back, nor under another name.
    for id in ("lab", "other"):
        refused = enrol(system, "node", id, key, "--scheduler", "main")
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1


def test_wrong_names_and_unpublished_keys_are_refused(system, tmp_path, known_hosts):
    published, unpublished = new_key(tmp_path, "a"), new_key(tmp_path, "b")
    assert enrol(system, "node", "attic", published, "--scheduler", "main").returncode == 0
    for name, key, forward, words in (
        ("node-attic", unpublished, "node-attic:22:127.0.0.1:9", "Permission denied"),
        ("node-cellar", published, "node-cellar:22:127.0.0.1:9", "Permission denied"),
        ("node-attic", published, "node-main:22:127.0.0.1:9", "remote port forwarding failed"),
        ("node-attic", published, "node-attic:80:127.0.0.1:9", "remote port forwarding failed"),
        ("node-attic", published, "0.0.0.0:2222:127.0.0.1:9", "remote port forwarding failed"),
    ):
        command = ssh(system, name, key, known_hosts, "-R", forward)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 255, done.stderr
        assert words in done.stderr


def test_a_router_that_is_not_published_is_refused(system, tmp_path, known_hosts):
    wrong = tmp_path / "wrong_hosts"
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    text = re.sub(r"ssh-ed25519 \S+", other.strip(), known_hosts.read_text())
    wrong.write_text(text)
    command = ssh(system, "node-main", new_key(tmp_path), wrong, "-R", "node-main:22:127.0.0.1:9")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_enrolment_demands_the_private_key(system, tmp_path):
    key = new_key(tmp_path)
    public = tmp_path / "elsewhere.pub"
    public.write_text((tmp_path / "key.pub").read_text())
    refused = enrol(system, "node", "x", public, "--scheduler", "main")
    assert refused.returncode == 1
    assert "ssh-agent" in refused.stderr
    beside = enrol(system, "node", "x", f"{key}.pub", "--scheduler", "main")
    assert beside.returncode == 0, beside.stderr
    for arguments in (("nodes", "x", key), ("node", "X_", key), ("node", "y", tmp_path / "none")):
        refused = enrol(system, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
