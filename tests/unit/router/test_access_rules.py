"""Who may listen for what, and who may reach whom: security.md 2.17, the relay's table."""

import itertools

import pytest

from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.overlay.errors import Refused
from dit4c_p2p.router.access_rules import (
    check_peer_may_listen,
    check_peer_may_reach,
    check_peer_served,
    parse_dial_target,
)

REACHED = {
    (Kind.SCHEDULER, Kind.NODE),
    (Kind.INSTANCE, Kind.FILESERVER),
    (Kind.USER, Kind.FILESERVER),
}


def document(name: str, scheduler: str | None = None) -> KeyDocument:
    return KeyDocument(PeerName.parse(name), 1, 1, 0, 3600, (), scheduler)


def may_reach(caller: str, target: str, port: int, scheduler: str | None = None) -> bool:
    try:
        check_peer_may_reach(
            PeerName.parse(caller), PeerName.parse(target), port, document(target, scheduler)
        )
    except Refused:
        return False
    return True


def test_a_scheduler_reaches_its_own_nodes_at_22() -> None:
    assert may_reach("scheduler-main", "node-home", 22, "main")


@pytest.mark.parametrize("port", [80, 2222, 0, 65535])
def test_a_scheduler_reaches_no_other_port_of_its_nodes(port: int) -> None:
    assert not may_reach("scheduler-main", "node-home", port, "main")


@pytest.mark.parametrize("scheduler", ["other", None, "", "Main"])
def test_a_scheduler_reaches_no_node_of_another(scheduler: str | None) -> None:
    assert not may_reach("scheduler-main", "node-home", 22, scheduler)


@pytest.mark.parametrize(("caller", "target"), list(itertools.product(Kind, Kind)))
def test_no_other_pair_of_peers_is_relayed(caller: Kind, target: Kind) -> None:
    if (caller, target) in REACHED:
        return
    for port in (22, 80):
        assert not may_reach(f"{caller}-a", f"{target}-b", port, "a")


@pytest.mark.parametrize("caller", ["instance-abc", "user-ann"])
def test_file_servers_are_reached_by_those_who_have_files_there(caller: str) -> None:
    assert may_reach(caller, "fileserver-main", 22)
    assert not may_reach(caller, "fileserver-main", 80)


def test_another_nodes_document_does_not_count() -> None:
    with pytest.raises(Refused):
        check_peer_may_reach(
            PeerName.parse("scheduler-main"),
            PeerName.parse("node-home"),
            22,
            document("node-other", "main"),
        )


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "10.0.0.1", "example.org", "", "node-", "node-A"]
)
def test_names_only_never_addresses(host: str) -> None:
    with pytest.raises(Refused, match="not the name of a peer"):
        parse_dial_target(host)


@pytest.mark.parametrize(
    ("peer", "port"),
    [("instance-abc", 80), ("instance-abc", 22), ("node-home", 22), ("fileserver-main", 22)],
)
def test_peers_listen_for_their_own_names(peer: str, port: int) -> None:
    check_peer_may_listen(PeerName.parse(peer), peer, port)


@pytest.mark.parametrize(
    ("peer", "host", "port"),
    [
        ("instance-abc", "instance-abd", 80),
        ("instance-abc", "localhost", 80),
        ("instance-abc", "", 80),
        ("instance-abc", "0.0.0.0", 80),
        ("instance-abc", "instance-ABC", 80),
        ("instance-abc", "instance-abc", 8080),
        ("instance-abc", "instance-abc", 0),
        ("node-home", "node-home", 80),
        ("node-home", "instance-home", 22),
        ("scheduler-main", "scheduler-main", 22),
        ("user-ann", "user-ann", 22),
    ],
)
def test_peers_listen_for_no_other_name_or_port(peer: str, host: str, port: int) -> None:
    with pytest.raises(Refused):
        check_peer_may_listen(PeerName.parse(peer), host, port)


def test_a_refusal_says_what_to_ask_for() -> None:
    with pytest.raises(Refused) as caught:
        check_peer_may_listen(PeerName.parse("instance-abc"), "instance-xyz", 80)
    assert (
        "Ask for instance-abc:81 or instance-abc:80 or instance-abc:22" in caught.value.one_line()
    )


@pytest.mark.parametrize("kind", Kind)
def test_only_those_with_something_to_do_log_in(kind: Kind) -> None:
    name = PeerName(kind, "a")
    if kind in (Kind.INSTANCE, Kind.NODE, Kind.SCHEDULER, Kind.FILESERVER, Kind.USER):
        check_peer_served(name, document(str(name)))
    else:
        with pytest.raises(Refused):
            check_peer_served(name, document(str(name)))
