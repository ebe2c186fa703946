"""Pauses before trying again."""

from dit4c_p2p.backoff import Backoff


def within(pauses: list[float], middles: list[float]) -> bool:
    return all(
        0.5 * middle <= pause <= 1.5 * middle for pause, middle in zip(pauses, middles, strict=True)
    )


def test_they_grow_to_the_longest() -> None:
    backoff = Backoff(0.2, 1.0)
    assert within([backoff.pause_s() for _ in range(5)], [0.2, 0.4, 0.8, 1.0, 1.0])


def test_they_begin_anew_when_it_went_well() -> None:
    backoff = Backoff(0.2, 1.0, factor=1.5)
    assert within([backoff.pause_s() for _ in range(2)], [0.2, 0.3])
    backoff.reset()
    assert within([backoff.pause_s()], [0.2])


def test_many_do_not_come_back_in_step() -> None:
    assert len({Backoff(1.0, 9.0).pause_s() for _ in range(20)}) > 10
