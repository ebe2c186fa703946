"""Names in any script, and nothing that deceives whoever reads them."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.portal.accounts.names import MAX_NAME_CHARS, checked_id, checked_name, id_from
from dit4c_p2p.portal.errors import BadRequest


@pytest.mark.parametrize(
    "name",
    [
        "Zoë",
        "张伟",
        "Анна Каренина",
        "مریم",
        "ศรีสุดา",
        "O’Neil-Smith",
        "می‌روم",
        "👩‍🔬 Lab",
        "日本 1",
    ],
)
def test_any_script(name):
    assert checked_name(name) == name


def test_composed_and_with_single_spaces():
    assert checked_name("  Zoe\u0308 \u00a0\tO’Neil\n") == "Zoë O’Neil"
    assert checked_name("") == ""


@pytest.mark.parametrize(
    "name",
    [
        "a\u0000b",
        "a\u001b[31mb",
        "gnp.\u202etxt",
        "a\u2066b\u2069",
        "a\u200fb",
        "a\u200bb",
        "a\u00adb",
        "a\ufeffb",
        "a\ue000b",
        "a\ud800b",
        "a\U000e0041b",
        "\u200d\u200d",
        "a" + "\u0300" * 20,
        "x" * (MAX_NAME_CHARS + 1),
    ],
)
def test_what_hides_or_turns_text_is_refused(name):
    with pytest.raises(BadRequest) as caught:
        checked_name(name, field="label")
    assert caught.value.field == "label"


def test_what_is_far_too_long_is_refused_before_it_is_composed(monkeypatch):
    """That takes a time that grows with the square of its marks."""
    composed, real = [], unicodedata.normalize

    def normalize(form, text):
        composed.append(len(text))
        return real(form, text)

    monkeypatch.setattr(unicodedata, "normalize", normalize)
    with pytest.raises(BadRequest, match="100 characters at most"):
        checked_name("a" + "\u0301" * 400 + "\u0323" * 400)
    assert composed == []
    # Three letters that are one syllable.
    assert checked_name("\u1112\u1161\u11ab" * 100) == "\ud55c" * 100


def test_a_name_that_must_be_there():
    for name in ("", "  ", "\u0301"):
        with pytest.raises(BadRequest):
            checked_name(name, required=True)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Zoë O’Neil", "zoe-oneil"),
        ("  Ada  Lovelace ", "ada-lovelace"),
        ("张伟", "person"),
        ("R2 & D2!", "r2-d2"),
        ("x" * 80, "x" * 40),
    ],
)
def test_ids_from_names(name, id):
    assert id_from(name) == id


@given(st.text(), st.integers(1, 10_000))
def test_whatever_the_name_the_id_is_one(name, number):
    assert checked_id(id_from(name, number))


@given(st.text(max_size=120))
def test_a_name_that_passes_stays_as_it_is(name):
    try:
        once = checked_name(name)
    except BadRequest:
        return
    assert checked_name(once) == once


@pytest.mark.parametrize("id", ["", "-a", "a-", "A", "a_b", "a" * 41, "ä", "a\n", "a/b", "٣"])
def test_what_is_no_id(id):
    assert not re.fullmatch(r"[a-z0-9-]*[a-z0-9]", id) or len(id) > 40 or id[0] == "-"
    with pytest.raises(BadRequest):
        checked_id(id)
