"""A log that is followed: what has come since."""

import pytest

from dit4c_p2p.client.commands import added_log_lines


@pytest.mark.parametrize(
    ("before", "now", "added"),
    [
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a"], ["a", "b"], ["b"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        (["a"], [], []),
        (["x", "x"], ["x", "x", "x"], ["x"]),
        (["a", "x"], ["a", "x", "a", "x"], ["a", "x"]),
    ],
)
def test_what_has_been_added(before, now, added):
    assert added_log_lines(before, now) == added
