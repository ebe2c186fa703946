"""Who was turned away comes back when it is its turn."""

import pytest

from dit4c_p2p.overlay.turns import LONGEST_S, Turns, decode, encode


def test_a_thousand_come_one_after_the_other() -> None:
    turns = Turns()
    for number in range(100):
        turns.logged_in(number * 0.005)
    given = [turns.give(1.0) for _ in range(1000)]
    assert given == sorted(given)
    assert len(set(given)) == 1000
    assert 5 <= given[-1] <= 6.5, "a thousand logins of 5 ms, and a little room"


def test_logins_now_and_then_say_nothing_of_the_pace() -> None:
    turns = Turns()
    before = Turns().give(0.0)
    for number in range(50):
        turns.logged_in(number * 30.0)
    assert turns.give(2000.0) == pytest.approx(before)


def test_a_line_that_nobody_waits_in_is_empty_again() -> None:
    turns = Turns()
    first = turns.give(0.0)
    for _ in range(200):
        turns.give(0.0)
    assert turns.give(1000.0) == pytest.approx(first)


def test_a_flood_sends_nobody_away_for_long() -> None:
    turns = Turns()
    given = [turns.give(0.0) for _ in range(100_000)]
    assert max(given) <= LONGEST_S
    late = given[-1000:]
    assert min(late) >= LONGEST_S / 2
    assert len(set(late)) > 900, "not all at once"
    assert turns.give(LONGEST_S) < 1, "the line has gone by"


@pytest.mark.parametrize("seconds", [0.0, 0.1, 3.2, 10.0])
def test_what_is_said_is_understood(seconds: float) -> None:
    assert decode(encode(seconds)) == seconds


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "too many connections",
        "come back in a while",
        "come back in 11 s",
        "come back in 9999 s",
        "come back in 1e5 s",
        "come back in -1 s",
        "come back in 1.2.3 s",
        "come back in ٣ s",
        "come back in 3 s, or never",
    ],
)
def test_what_is_no_such_hint_is_none(reason: str) -> None:
    assert decode(reason) is None
