"""What of asyncssh is relied upon, and for which releases."""

import re
import tomllib

import asyncssh
import pytest
from asyncssh.connection import SSHConnection
from lib.paths import ROOT

from dit4c_p2p.overlay.asyncssh_ext import private_api


@pytest.mark.parametrize("names", [private_api.GUARD, private_api.QUICK])
def test_every_name_is_there(names: private_api.Names) -> None:
    assert private_api.missing_private_names(names) == []
    assert private_api.unsupported_reason(names) == ""


def test_a_missing_private_name_is_reported() -> None:
    names = {SSHConnection: {"_transport": "an attribute", "_gone": "nowhere", "_send": "a method"}}
    assert private_api.missing_private_names(names) == ["SSHConnection._gone"]
    assert "_gone" in private_api.unsupported_reason(names)


def test_an_unknown_release_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncssh, "__version__", "2.25.0")
    assert "2.25.0" in private_api.unsupported_reason(private_api.QUICK)


def test_every_used_private_name_is_listed() -> None:
    """Every private name after a dot, of something that is not ``self`` or ``cls``."""
    listed = {
        name
        for names in (private_api.GUARD, private_api.QUICK)
        for n in names.values()
        for name in n
    }
    overlay = ROOT / "dit4c_p2p" / "overlay"
    for path in (overlay / "server.py", *(overlay / "asyncssh_ext").glob("*.py")):
        touched = set(re.findall(r"(?<!self)(?<!cls)\.(_[a-z]\w*)", path.read_text()))
        assert touched <= listed, path


def test_the_release_is_pinned_alike_for_peers_and_helpers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    helpers = (ROOT / "helpers" / "pod" / "runtime" / "requirements.txt").read_text().splitlines()
    pins = [
        next(line for line in lines if line.startswith("asyncssh"))
        for lines in (project["dependencies"], helpers)
    ]
    assert pins == ["asyncssh>=2.24.1,<2.25"] * 2
