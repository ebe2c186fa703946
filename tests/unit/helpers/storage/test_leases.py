"""Leases at their holder: how long they are counted on, and which grants are void."""

import pytest

from dit4c_p2p.helpers.storage.leases import LeaseSession
from dit4c_p2p.sftp.extensions import HOLDER_LEASE_S, Grant, LeaseKind

FILE = 7


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def session(clock):
    session = LeaseSession(HOLDER_LEASE_S, clock)
    session.acknowledged(clock.now)
    return session


def grant(session, seq=1, kind=LeaseKind.READ):
    return session.granted(FILE, Grant(kind, seq))


def test_a_lease_lasts_from_the_sending_of_the_last_answered_request(session, clock):
    lease = grant(session)
    clock.now += 3.9
    assert lease.valid
    session.acknowledged(clock.now - 2)  # sent two seconds ago, answered now
    clock.now += 1.9
    assert lease.valid
    clock.now += 0.2
    assert not lease.valid


def test_an_answer_to_an_earlier_request_does_not_shorten_a_lease(session, clock):
    lease = grant(session)
    clock.now += 1
    session.acknowledged(clock.now)
    session.acknowledged(clock.now - 0.9)
    clock.now += 3.9
    assert lease.valid


def test_a_lease_that_has_ended_does_not_come_back(session, clock):
    lease = grant(session)
    clock.now += HOLDER_LEASE_S
    session.acknowledged(clock.now)
    assert not lease.valid
    assert grant(session, 2).valid


def test_an_answer_on_its_way_before_the_end_renews_a_lease(session, clock):
    lease = grant(session)
    sent_at = clock.now + HOLDER_LEASE_S - 0.1
    clock.now += HOLDER_LEASE_S + 0.5
    assert not lease.valid
    session.acknowledged(sent_at)
    assert lease.valid


def test_a_recall_voids_a_grant_that_arrives_later(session):
    session.recalled(FILE, 5)
    assert grant(session, 5) is None
    assert grant(session, 6).valid


def test_no_grant_is_no_lease(session):
    assert grant(session, 1, LeaseKind.NONE) is None


def test_the_end_of_a_session_ends_its_leases(session):
    lease = grant(session)
    session.end()
    assert not lease.valid


def test_recalls_that_are_forgotten_take_all_leases_with_them(session):
    lease = grant(session)
    for file_id in range(1000, 11_001):
        session.recalled(file_id, 1)
    assert not lease.valid
