import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName


@given(st.sampled_from(Kind), st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True))
def test_a_name_is_its_own_text(kind, id):
    name = PeerName(kind, id)
    assert PeerName.parse(str(name)) == name
    assert len(str(name)) <= 63  # a DNS label


@pytest.mark.parametrize(
    "text",
    ["", "node", "node-", "-home", "node--a", "node-a-", "node-A", "node-a_b", "node-a.b",
     "node-" + "a" * 41, "nodes-a", "node-a\n", "node-é", "node-a/../b", "NODE-a"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text):
    with pytest.raises(InvalidName):
        PeerName.parse(text)


@given(st.text(max_size=80))
def test_any_text_gives_a_name_or_a_clear_error(text):
    try:
        assert str(PeerName.parse(text)) == text
    except InvalidName as error:
        assert str(error)
