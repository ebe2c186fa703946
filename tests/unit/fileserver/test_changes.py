"""Whose change of a file was the last one, and since when."""

import pytest

from dit4c_p2p.fileserver.changes import KEPT_S, Changes

F, G = 1, 2


@pytest.mark.parametrize(
    ("changes", "by_others"),
    [
        ([], False),
        (["me"], False),
        (["other"], True),
        (["other", "me"], True),
        (["other", "third", "me", "me"], True),
        (["me", "other"], True),
    ],
)
def test_anothers_change_is_known_whatever_came_after_it(changes, by_others):
    table = Changes()
    table.note("other", F, 0)
    since = table.point
    for who in changes:
        table.note(who, F, 1)
    assert table.by_others("me", F, since, 10) is by_others
    assert not table.by_others("me", F, table.point, 10)
    assert not table.by_others("me", F, since, 0.5), "all of it came later"
    assert not table.by_others("me", G, since, 10)


def test_what_was_forgotten_counts_as_changed():
    table = Changes(most=2)
    for file_id in (F, G, 3):
        table.note("me", file_id, 0)
    assert table.by_others("me", F, 0, 10)
    assert not table.by_others("me", F, 1, 10), "it was not changed since then"
    assert not table.by_others("me", G, 0, 10)
    table.note("me", 4, KEPT_S + 1)
    assert table.by_others("me", G, 0, 10), "nobody waits for so long"


def test_a_file_that_was_made_has_nothing_to_do_with_an_earlier_one_of_its_number():
    table = Changes()
    table.note("other", F, 0)
    table.note("me", F, 1, made=True)
    assert not table.by_others("me", F, 0, 10)
    assert table.by_others("other", F, 0, 10)
