"""Which portal ``dit4c key`` speaks to, and with whose token."""

import json

import pytest

from dit4c_p2p.admin.keys import read_admin_access
from dit4c_p2p.errors import ConfigError

RUNNING, ELSEWHERE = "http://localhost:8080", "https://portal.example.org"


@pytest.fixture
def folder(tmp_path):
    access = {"portal": RUNNING, "api_token": "of the running one"}
    (tmp_path / "ready.json").write_text(json.dumps(access))
    return tmp_path


def test_the_running_one_and_its_token_unless_others_are_given(folder):
    assert read_admin_access(None, folder, {}) == (RUNNING, "of the running one")
    assert read_admin_access(f"{RUNNING}/", folder, {}) == (RUNNING, "of the running one")
    given = {"DIT4C_TOKEN": "given"}
    assert read_admin_access(None, folder, given) == (RUNNING, "given")
    assert read_admin_access(f"{ELSEWHERE}/", folder, given) == (ELSEWHERE, "given")


def test_a_token_goes_to_no_other_portal_than_its_own(folder):
    with pytest.raises(ConfigError, match=f"no token for {ELSEWHERE}") as caught:
        read_admin_access(ELSEWHERE, folder, {})
    assert "DIT4C_TOKEN" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"portal": "http://localhost:8080"}'])
def test_a_file_that_says_nothing_is_of_no_use(tmp_path, content):
    (tmp_path / "ready.json").write_text(content)
    with pytest.raises(ConfigError, match="no running portal is known"):
        read_admin_access(None, tmp_path, {})
