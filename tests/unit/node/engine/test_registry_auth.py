"""Logins at registries, from the file that ``docker login`` writes."""

import base64
import json

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.node.engine.registry_auth import RegistryLogins
from dit4c_p2p.oci.reference import DOCKER_HUB


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.json"
    path.touch(0o600)
    return path


def login(file, registry):
    header = RegistryLogins(file).of(registry)
    return header and json.loads(base64.urlsafe_b64decode(header))


def test_each_registry_has_its_own(file):
    auths = {
        "registry.example.org": {"auth": encoded("ada:a:b")},
        "https://other.example.org:5000/v2/": {"auth": encoded("bob:grüße")},
        "https://index.docker.io/v1/": {"auth": encoded("hub:h"), "identitytoken": "t"},
    }
    file.write_text(json.dumps({"auths": auths, "HttpHeaders": {}}))
    assert login(file, "registry.example.org") == {
        "username": "ada",
        "password": "a:b",
        "serveraddress": "registry.example.org",
    }
    assert login(file, "other.example.org:5000")["password"] == "grüße"
    assert login(file, DOCKER_HUB)["identitytoken"] == "t"
    assert login(file, "example.org") is None
    assert login(file, "other.example.org") is None


def test_none_without_a_file_or_in_an_empty_one(file):
    assert RegistryLogins(None).of("registry.example.org") is None
    file.write_text("{}")
    assert login(file, "registry.example.org") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"auths": []}', '{"auths": {"a": "b"}}', "\xff", "[" * 100_000),
        *('{"auths": {"a": {"auth": "?"}}}', '{"auths": {"a": {"auth": "YQ=="}}}'),
    ],
)
def test_something_else_is_called_so(file, text):
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match="it is something else") as caught:
        RegistryLogins(file).check()
    assert str(file) in str(caught.value)


def test_a_credential_store_is_not_asked_and_that_is_said(file):
    file.write_text('{"auths": {"registry.example.org": {}}, "credsStore": "desktop"}')
    with pytest.raises(ConfigError, match=r"no password for registry\.example\.org") as caught:
        RegistryLogins(file).check()
    assert "credential store" in caught.value.hint


def test_everybody_s_to_read_or_nobody_s(file):
    file.write_text("{}")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody") as caught:
        RegistryLogins(file).check()
    assert caught.value.hint == f"take it away from others: chmod o= {file}"
    file.unlink()
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        RegistryLogins(file).check()


def test_a_wrong_password_is_in_no_message(file):
    file.write_text(json.dumps({"auths": {"a": {"auth": encoded("geheim")}}}))
    with pytest.raises(ConfigError) as caught:
        RegistryLogins(file).check()
    assert "geheim" not in caught.value.one_line()
    assert encoded("geheim") not in caught.value.one_line()
