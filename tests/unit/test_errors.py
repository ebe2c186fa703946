"""An error as a terminal, a log or an answer shows it."""

from dit4c_p2p.errors import DitError


def test_on_one_line_the_hint_is_a_sentence_of_its_own():
    assert (
        DitError("the disk is full", hint="make room").one_line() == "the disk is full. Make room"
    )
    assert DitError("no", hint="'dit4c up' does it").one_line() == "no. 'dit4c up' does it"
    assert DitError("the disk is full").one_line() == "the disk is full"
