"""No access goes on while another session may count on the contrary: the promise of leases."""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dit4c_p2p.fileserver.leases import LeaseTable
from dit4c_p2p.sftp.extensions import (
    HOLDER_LEASE_S,
    RECALL_S,
    REPLAY_S,
    SERVER_LEASE_S,
    Grant,
    LeaseKind,
)

NONE, READ, WRITE = LeaseKind.NONE, LeaseKind.READ, LeaseKind.WRITE
D, F, G, E = 100, 1, 2, 200


@pytest.fixture
def table():
    table = LeaseTable()
    for session in "abc":
        table.join(session, 0.0)
    return table


def test_many_may_read_and_one_may_write(table):
    assert table.acquire("a", F, READ, 0).kind == READ
    assert table.acquire("b", F, READ, 0).kind == READ
    assert table.acquire("b", F, WRITE, 0).kind == READ
    assert table.acquire("a", G, WRITE, 0).kind == WRITE
    assert table.acquire("b", G, READ, 0).kind == NONE


def test_a_change_recalls_readers_and_waits_for_them(table):
    grant = table.acquire("a", F, READ, 0)
    assert table.check("a", (), (F,), 1) is None
    conflict = table.check("b", (), (F,), 1)
    assert conflict is not None and conflict.file_ids == {F}
    (notice,) = table.take_notices()
    assert (notice.session, notice.file_id, notice.seq) == ("a", F, grant.seq)
    assert (notice.keep, notice.broken) == (NONE, False)
    assert table.check("b", (), (F,), 1.5) == conflict
    assert table.take_notices() == [], "it was told once"
    table.give_back("a", F, grant.seq, NONE)
    assert table.check("b", (), (F,), 2) is None


def test_a_reader_leaves_a_writer_the_right_to_read(table):
    grant = table.acquire("a", F, WRITE, 0)
    assert table.check("b", (F,), (), 0) is not None
    (notice,) = table.take_notices()
    assert notice.keep == READ
    table.give_back("a", F, grant.seq, WRITE)
    assert table.check("b", (F,), (), 0) is not None, "that was no answer to the recall"
    table.give_back("a", F, grant.seq, READ)
    assert table.held("a", F, 0) == READ
    assert table.check("b", (F,), (), 0) is None
    assert table.acquire("b", F, READ, 0).kind == READ


def test_a_lease_that_is_not_given_back_is_broken(table):
    table.acquire("a", F, READ, 0)
    conflict = table.check("b", (), (F,), 2)
    assert conflict is not None and conflict.until == SERVER_LEASE_S, "its last word was at 0"
    table.renew("a", 4)
    assert table.check("b", (), (F,), 4.9) is not None
    table.take_notices()
    assert table.check("b", (), (F,), 5) is None, "what comes after a recall renews nothing"
    (notice,) = table.take_notices()
    assert notice.broken and notice.session == "a"


def test_leases_of_a_silent_session_are_gone(table):
    table.acquire("a", F, READ, 0)
    table.acquire("a", G, WRITE, 0)
    assert table.check("b", (), (F,), 5) is None
    table.renew("a", 6)
    broken = [notice.file_id for notice in table.take_notices() if notice.broken]
    assert sorted(broken) == [F, G]
    assert table.count == 0


def test_a_directory_covers_its_entries(table):
    table.acquire("a", D, READ, 0)
    assert table.check("b", (), (F, D), 0) is not None, "the attributes of an entry change"
    assert table.acquire("b", F, WRITE, 0, parents=(D,)).kind == READ
    assert table.acquire("b", F, READ, 0, parents=(D,)).kind == READ


def test_an_entrys_lease_keeps_its_directory_from_others(table):
    table.acquire("a", F, WRITE, 0, parents=(D,))
    assert table.acquire("b", D, READ, 0).kind == NONE
    assert table.leased_entries(D) == (F,)
    table.move(F, E)
    assert table.leased_entries(D) == () and table.leased_entries(E) == (F,)
    assert table.acquire("b", D, WRITE, 0).kind == WRITE


def test_nothing_is_granted_on_what_others_change_or_wait_for(table):
    table.begin_change("b", (F,))
    assert table.acquire("a", F, READ, 0).kind == NONE
    assert table.acquire("b", F, WRITE, 0).kind == WRITE
    table.end_change("b", (F,))
    table.forget("b", 0)
    table.await_access("c", (F,))
    assert table.acquire("a", F, READ, 0).kind == NONE
    table.end_await("c", (F,))
    assert table.acquire("a", F, READ, 0).kind == READ


def test_a_newer_grant_outlives_an_older_return(table):
    first = table.acquire("a", F, READ, 0)
    second = table.acquire("a", F, WRITE, 0)
    table.give_back("a", F, first.seq, NONE)
    assert table.held("a", F, 0) == WRITE
    table.give_back("a", F, second.seq, NONE)
    assert table.held("a", F, 0) == NONE
    assert table.count == 0 and not table.writers_but("b")


def test_leases_outlive_their_session_as_its_mount_may_count_on_them(table):
    table.acquire("a", F, WRITE, 0)
    table.renew("a", 1)
    assert table.leave("a", 3)
    conflict = table.check("b", (F,), (), 3)
    assert conflict is not None and conflict.until == 1 + SERVER_LEASE_S
    assert table.acquire("a", G, READ, 3).kind == NONE, "it has ended"
    assert table.check("b", (F,), (), 1 + SERVER_LEASE_S) is None
    assert not table.leave("a", 7), "there is nothing left to wait for"
    assert table.leave("b", 7) is False


def test_leases_are_over_when_their_mount_comes_back(table):
    table.join("old", 0, mount=7)
    table.acquire("old", F, WRITE, 0)
    table.leave("old", 1)
    table.join("new", 2, mount=7)
    assert table.check("b", (), (F,), 2) is None


def test_all_leases_are_given_back_at_once(table):
    for file_id in (F, G):
        table.acquire("a", file_id, WRITE, 0)
    table.give_all_back("a")
    table.give_all_back("nobody")
    assert table.count == 0 and table.acquire("a", F, READ, 0).kind == READ


def away_by_silence(table):
    """A session is not heard of for a while, as by SIGSTOP."""
    return "mount", lambda now: table.renew("mount", now)


def away_by_connection(table):
    """A mount's session is lost, and it comes back with another."""

    def comes_back(now):
        table.leave("mount", now - 1)
        table.join("again", now, mount=7)

    return "again", comes_back


def away_by_recall(table):
    """A session answers, and does not give a lease back."""

    def goes_on(now):
        for second in range(1, int(now) + 1):
            table.renew("mount", second)

    table.acquire("mount", F, WRITE, 0)
    assert table.check("b", (), (F,), 0) is not None
    goes_on(5)
    assert table.check("b", (), (F,), 5) is None
    return "mount", goes_on


@pytest.mark.parametrize("away", [away_by_silence, away_by_connection, away_by_recall])
@pytest.mark.parametrize(
    ("changed_by", "changed_at", "overtaken"),
    [(None, 0, False), ("mount", 8, False), ("b", 8, True), ("stock", 8, True), ("b", 11, False)],
)
def test_a_write_of_before_is_overtaken_by_anothers_change(
    table, away, changed_by, changed_at, overtaken
):
    table.join("mount", 0, mount=7)
    opened_at = table.changes.point
    session, comes_back = away(table)
    who = 7 if changed_by == "mount" else changed_by
    if who is not None and changed_at < 10:
        table.changes.note(who, F, changed_at)
    comes_back(10)
    later = 10 + REPLAY_S + 1
    if changed_at > 10:
        table.changes.note(who, F, later)
    now = later if changed_at > 10 else 10.5
    assert table.overtaken(session, F, opened_at, now) is overtaken
    assert not table.overtaken(session, G, opened_at, now), "another file"
    assert not table.overtaken(session, F, table.changes.point, now), "opened since"
    assert not table.overtaken("b", F, opened_at, now), "it was here all the time"
    assert not table.overtaken(session, F, opened_at, later), "that was not sent behind"


def test_a_mount_that_is_lost_again_before_it_has_sent_all_was_away_all_the_time(table):
    table.join("first", 0, mount=7)
    table.changes.note("b", F, 1)
    table.leave("first", 6)
    table.join("second", 7, mount=7)
    table.leave("second", 8)
    table.join("third", 9, mount=7)
    assert table.overtaken("third", F, 0, 10)
    table.join("another", 9, mount=8)
    assert [table.is_new(one, 10) for one in ("another", "third", "b")] == [True, False, False]
    assert not table.is_new("another", 9 + REPLAY_S + 1)


def test_a_session_without_a_mount_is_not_overtaken_by_itself(table):
    table.join("old helper", 0, who=-3)
    table.changes.note(-3, F, 1)
    table.changes.note("b", G, 1)
    table.renew("old helper", 10)
    assert not table.overtaken("old helper", F, 0, 10)
    assert table.overtaken("old helper", G, 0, 10)


def test_there_is_an_end_to_leases():
    table = LeaseTable(max_leases=2)
    table.join("a", 0)
    assert [table.acquire("a", one, READ, 0).kind for one in (1, 2, 3)] == [READ, READ, NONE]
    assert table.acquire("a", 2, WRITE, 0).kind == WRITE


@dataclass
class Believed:
    """A lease as its holder sees it."""

    kind: LeaseKind
    seq: int
    ends_at: float | None = None  # it is being recalled


@dataclass
class Client:
    """The storage helper's half of the promise, with messages on their way to and from it."""

    to_server: deque = field(default_factory=deque)
    to_client: deque = field(default_factory=deque)
    answered_at: float = 0.0  # when the newest request was sent that is answered
    believed: dict[int, Believed] = field(default_factory=dict)
    voided: dict[int, int] = field(default_factory=dict)
    lost: bool = False  # by the server; the client has not heard of it

    def counts_on(self, file_id: int, now: float) -> LeaseKind:
        lease = self.believed.get(file_id)
        if lease is None:
            return NONE
        ends_at = self.answered_at + HOLDER_LEASE_S if lease.ends_at is None else lease.ends_at
        return lease.kind if now < ends_at else NONE


FILES = st.sampled_from([F, F, G])
NAMES = st.sampled_from("ab")
MOUNTS = {"a": 7, "b": 8}
# How a request travels: at once and answered at once, or late on its way there or back.
WAYS = st.sampled_from(["prompt", "prompt", "prompt", "answered late", "late"])


class Promise(RuleBasedStateMachine):
    """Messages are late by any time, and holders answer recalls or don't."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = LeaseTable()
        self.clients = {name: Client() for name in MOUNTS}
        for name, mount in MOUNTS.items():
            self.table.join(name, 0.0, mount)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 4.0, 4.5, 5.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(name=NAMES, file_id=FILES, kind=st.sampled_from([READ, WRITE]), way=WAYS)
    def ask_for_a_lease(self, name, file_id, kind, way):
        self.send(name, way, "acquire", file_id, kind)

    @rule(name=NAMES, file_id=FILES, change=st.booleans(), way=WAYS)
    def access(self, name, file_id, change, way):
        self.send(name, way, "access", file_id, change)

    @rule(name=NAMES, way=WAYS)
    def renew(self, name, way):
        self.send(name, way, "renew", 0, 0)

    @rule(name=NAMES, file_id=FILES, keep=st.sampled_from([NONE, READ]), way=WAYS)
    def give_back(self, name, file_id, keep, way):
        client = self.clients[name]
        lease = client.believed.get(file_id)
        if lease is None:
            return
        seq = lease.seq
        if keep == NONE:
            del client.believed[file_id]
        else:
            lease.kind = min(lease.kind, keep)
        self.send(name, way, "return", file_id, (seq, keep))

    @rule(name=NAMES)
    def the_server_loses_the_session(self, name):
        self.table.leave(name, self.now)
        self.clients[name].lost = True

    @rule(name=NAMES)
    def the_mount_comes_back(self, name):
        if self.clients[name].lost:
            self.clients[name] = Client(answered_at=self.now)
            self.table.join(name, self.now, MOUNTS[name])

    @rule(name=NAMES)
    def what_is_late_arrives_at_the_server(self, name):
        while self.clients[name].to_server:
            self.server_receives(name)

    @rule(name=NAMES)
    def what_is_late_arrives_at_the_client(self, name):
        while self.clients[name].to_client:
            self.client_receives(name)

    def send(self, name, way, *request):
        client = self.clients[name]
        client.to_server.append((self.now, *request))
        if way != "late":
            self.what_is_late_arrives_at_the_server(name)
        if way == "prompt":
            self.what_is_late_arrives_at_the_client(name)

    def server_receives(self, name):
        client = self.clients[name]
        sent_at, what, file_id, how = client.to_server.popleft()
        if client.lost:
            return
        self.table.renew(name, self.now)
        self.send_notices()
        grant = None
        if what == "acquire" and self.allowed(name, (file_id,), ()):
            grant = file_id, self.table.acquire(name, file_id, how, self.now)
        elif what == "access":
            self.allowed(name, *(((), (file_id,)) if how else ((file_id,), ())))
        elif what == "return":
            seq, keep = how
            self.table.give_back(name, file_id, seq, keep)
        self.send_notices()
        client.to_client.append(("reply", sent_at, grant))

    def allowed(self, name, reads, changes):
        """An access: if the server lets it go on, nobody else may count on the contrary."""
        if self.table.check(name, reads, changes, self.now) is not None:
            self.send_notices()
            return False
        self.send_notices()
        for other, client in self.clients.items():
            if other != name:
                for file_id in reads:
                    assert client.counts_on(file_id, self.now) != WRITE
                for file_id in changes:
                    assert client.counts_on(file_id, self.now) == NONE
        return True

    @invariant()
    def whoever_is_waited_for_in_vain_has_stopped_before(self):
        """Were nothing to arrive from now on: when the server goes on, no holder counts on it."""
        for name in self.clients:
            for file_id, change in product((F, G), (False, True)):
                table, now = deepcopy(self.table), self.now
                ids = ((), (file_id,)) if change else ((file_id,), ())
                while (conflict := table.check(name, *ids, now)) is not None:
                    assert now < conflict.until <= self.now + RECALL_S
                    now = conflict.until
                for other, client in self.clients.items():
                    if other != name:
                        least = READ if change else WRITE
                        assert client.counts_on(file_id, now) < least

    def send_notices(self):
        for notice in self.table.take_notices():
            self.clients[notice.session].to_client.append(("notice", notice, None))

    def client_receives(self, name):
        client = self.clients[name]
        what, first, grant = client.to_client.popleft()
        if what == "reply":
            client.answered_at = max(client.answered_at, first)
            if grant is not None:
                self.granted(client, *grant)
            return
        client.voided[first.file_id] = max(client.voided.get(first.file_id, 0), first.seq)
        lease = client.believed.get(first.file_id)
        if lease is None or lease.seq > first.seq:
            return
        if first.broken:
            del client.believed[first.file_id]
        elif lease.ends_at is None:
            lease.ends_at = client.answered_at + HOLDER_LEASE_S

    def granted(self, client: Client, file_id: int, grant: Grant):
        if grant.kind and grant.seq > client.voided.get(file_id, 0):
            client.believed[file_id] = Believed(LeaseKind(grant.kind), grant.seq)

    def teardown(self):
        for name in self.clients:
            self.table.forget(name, self.now)
        assert self.table.count == 0


TestPromise = Promise.TestCase
TestPromise.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example is short enough to read
)
