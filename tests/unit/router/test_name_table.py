"""The map from names to connections."""

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.router.name_table import NameTable

NAME = PeerName.parse("instance-abc")


def test_no_connection_is_found_before_a_registration() -> None:
    assert NameTable[str]().find(NAME, 80) is None


def test_the_newest_registration_replaces_the_older() -> None:
    table: NameTable[str] = NameTable()
    _, displaced = table.claim(NAME, 80, "old")
    assert displaced is None
    _, displaced = table.claim(NAME, 80, "new")
    assert displaced == "old"
    assert table.find(NAME, 80) == "new"


def test_ports_and_names_are_apart() -> None:
    table: NameTable[str] = NameTable()
    table.claim(NAME, 80, "web")
    table.claim(NAME, 22, "ssh")
    table.claim(PeerName.parse("node-abc"), 22, "node")
    assert (table.find(NAME, 80), table.find(NAME, 22)) == ("web", "ssh")
    assert len(table) == 3


def test_a_replaced_registration_removes_nothing() -> None:
    table: NameTable[str] = NameTable()
    old, _ = table.claim(NAME, 80, "old")
    new, _ = table.claim(NAME, 80, "new")
    assert not table.release(old)
    assert table.find(NAME, 80) == "new"
    assert table.release(new)
    assert table.find(NAME, 80) is None
    assert not table.release(new)


def test_a_repeated_registration_replaces_nothing() -> None:
    table: NameTable[str] = NameTable()
    first, _ = table.claim(NAME, 80, "same")
    _, displaced = table.claim(NAME, 80, "same")
    assert displaced is None
    assert not table.release(first)
    assert table.find(NAME, 80) == "same"
