"""Paths of the file page: any bytes in a name, and no way up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.storage.paths import (
    FilePath,
    checked_name,
    form_name,
    name_of_form,
    shown_name,
)

names = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)


@given(st.lists(names, max_size=5))
def test_a_path_comes_back_from_its_url(parts):
    path = FilePath(tuple(parts))
    assert FilePath.from_url(path.url) == path
    assert path.remote == b"/" + b"/".join(parts)
    assert path.url.isascii()
    assert "\n" not in path.text


@given(names)
def test_a_name_comes_back_from_a_form(name):
    assert name_of_form(form_name(name)) == name
    assert shown_name(name).isprintable()


@given(st.text(max_size=60))
def test_no_url_leads_up(text):
    try:
        path = FilePath.from_url(text)
    except BadRequest:
        return
    assert not {b"", b".", b".."} & set(path.names)
    assert all(b"/" not in name and b"\0" not in name for name in path.names)


@pytest.mark.parametrize("text", ["..", "a/..", "%2e%2e", "a%2Fb", "%00", "x" * 256, "a/./b"])
def test_what_can_be_no_name_is_refused(text):
    with pytest.raises(BadRequest):
        FilePath.from_url(text)


def test_a_name_has_a_longest_length():
    assert checked_name(b"x" * 255)
    with pytest.raises(BadRequest, match="255 bytes"):
        checked_name(b"x" * 256)
