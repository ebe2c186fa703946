"""Changes that are sent behind: their order, their ends, and a lost connection among them."""

import asyncio

import pytest

from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.behind import Behind, Change
from dit4c_p2p.helpers.storage.leases import HeldLease, LeaseSession
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone
from dit4c_p2p.sftp.extensions import LeaseKind
from dit4c_p2p.sftp.operations import Done, Failed, Unlink


class Remote:
    """Remembers what it is asked; ``answers`` hold until they are let go."""

    def __init__(self) -> None:
        self.leases = LeaseSession(4.0, lambda: 0.0)
        self.leases.acknowledged(0.0)
        self.asked: list[bytes] = []
        self.let_go = asyncio.Event()
        self.gone = False
        self.fails: set[bytes] = set()

    async def run_ordered(self, operations):
        self.asked += [operation.path for operation in operations]
        await self.let_go.wait()
        if self.gone:
            raise ConnectionGone("lost")
        return [Failed(13, b"no") if one.path in self.fails else Done() for one in operations]


class Link:
    """A server link whose sessions the test gives."""

    def __init__(self, *remotes: Remote) -> None:
        self.remotes = list(remotes)

    async def call(self, operation):
        while True:
            try:
                return await operation(self.remotes[0])
            except ConnectionGone:
                self.remotes.pop(0)
                if not self.remotes:
                    raise OSError(5, "no file server") from None


@pytest.fixture
def node():
    return Node(7, Attributes(), None)


class Made:
    """Changes, and how they ended."""

    def __init__(self, remote: Remote) -> None:
        self.lease = HeldLease(LeaseKind.WRITE, 1, remote.leases, remote.leases.period)
        self.ended: list[tuple[bytes, object]] = []
        self.again: list[bytes] = []

    def change(self, path: bytes, *nodes: Node) -> Change:
        async def again(remote: object) -> Done:
            self.again.append(path)
            return Done()

        def done(result: object) -> None:
            self.ended.append((path, result))

        return Change(nodes, path, self.lease, Unlink(path), again, done)


async def test_changes_are_sent_in_order_and_many_at_once(node):
    remote = Remote()
    behind, made = Behind(Link(remote)), Made(remote)
    for number in range(500):
        behind.add(made.change(b"/%d" % number, node))
    assert len(behind.names()) == 500
    remote.let_go.set()
    await behind.drain()
    assert remote.asked == [b"/%d" % number for number in range(500)]
    assert [path for path, _ in made.ended] == remote.asked
    assert behind.names() == []


async def test_whoever_waits_for_a_node_waits_for_its_changes_alone(node):
    remote = Remote()
    behind, made = Behind(Link(remote)), Made(remote)
    other = Node(8, Attributes(), None)
    behind.add(made.change(b"/a", node))
    await behind.settled(other)
    waiting = asyncio.ensure_future(behind.settled(node))
    await asyncio.sleep(0)
    assert not waiting.done()
    remote.let_go.set()
    await waiting


async def test_one_that_fails_does_not_keep_the_others_from_being_done(node):
    remote = Remote()
    remote.fails = {b"/b"}
    remote.let_go.set()
    behind, made = Behind(Link(remote)), Made(remote)
    for path in (b"/a", b"/b", b"/c"):
        behind.add(made.change(path, node))
    await behind.drain()
    assert [type(result) for _, result in made.ended] == [Done, Failed, Done]


async def test_after_a_lost_connection_each_is_carried_out_with_care(node):
    first, second = Remote(), Remote()
    behind, made = Behind(Link(first, second)), Made(first)
    behind.add(made.change(b"/a", node))
    behind.add(made.change(b"/b", node))
    await asyncio.sleep(0)
    first.gone = True
    first.let_go.set()
    await behind.drain()
    assert made.again == [b"/a", b"/b"]
    assert second.asked == []


async def test_without_its_lease_a_change_is_carried_out_with_care(node):
    remote = Remote()
    behind, made = Behind(Link(remote)), Made(remote)
    made.lease.broken = True
    behind.add(made.change(b"/a", node))
    await behind.drain()
    assert (made.again, remote.asked) == ([b"/a"], [])


async def test_when_no_server_comes_back_every_change_has_failed(node):
    remote = Remote()
    remote.gone = True
    remote.let_go.set()
    behind, made = Behind(Link(remote)), Made(remote)
    behind.add(made.change(b"/a", node))
    await behind.drain()
    assert [result.errno for _, result in made.ended] == [5]
