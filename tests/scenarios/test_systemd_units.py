"""The systemd units: one for each component, hardened, and understood by systemd."""

import shutil
import subprocess
from configparser import RawConfigParser

import pytest
from lib.paths import ROOT

from dit4c_p2p.settings import KINDS

FOLDER = ROOT / "docs" / "systemd"


class Unit(RawConfigParser):
    """A unit as systemd reads it, but for settings that are there twice."""

    def __init__(self, kind):
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str
        self.read_string((FOLDER / f"dit4c-{kind}.service").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_the_component_and_comes_back(kind):
    service = Unit(kind)["Service"]
    assert (
        service["ExecStart"] == f"/opt/dit4c/bin/dit4c {kind} run --config /etc/dit4c/{kind}.toml"
    )
    assert service["User"] == f"dit4c-{kind}"
    assert service["Restart"] == "always"
    assert service["StateDirectory"] == f"dit4c-{kind}"
    assert int(service["TimeoutStopSec"]) > 10
    users = (FOLDER / "dit4c.sysusers.conf").read_text()
    assert f"u dit4c-{kind} " in users


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_do_no_more_than_it_has_to(kind):
    service = Unit(kind)["Service"]
    for setting, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        # A file server keeps the modes that people give to their files.
        "RestrictSUIDSGID": "no" if kind == "fileserver" else "yes",
        "UMask": "0077",
    }.items():
        assert service[setting] == value
    binds = "CAP_NET_BIND_SERVICE" if kind in ("portal", "router", "imageserver") else ""
    assert service["CapabilityBoundingSet"] == binds
    assert ("SupplementaryGroups" in service) == (kind == "node")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_understands_it(kind, tmp_path):
    unit = tmp_path / f"dit4c-{kind}.service"
    text = (FOLDER / unit.name).read_text()
    unit.write_text(text.replace("/opt/dit4c/bin/dit4c", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60
    )
    # Debian 12's systemd does not know these two yet; the unit says so.
    new = ("RestartSteps", "RestartMaxDelaySec")
    said = [line for line in done.stderr.splitlines()
            if unit.name in line and not any(name in line for name in new)]  # fmt: skip
    assert said == []
