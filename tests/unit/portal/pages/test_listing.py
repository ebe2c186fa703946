"""Tables of pages: a list in memory is searched, sorted and shown in parts."""

from dataclasses import dataclass

import pytest

from dit4c_p2p.portal.pages.listing import Listing

COLUMNS = {"name": ("name",), "age": ("age", "name")}


@dataclass(frozen=True)
class One:
    name: str
    age: float | None


ALL = [One("b", 2.0), One("A", None), One("c", 1.0), One("d", 2.0)]


def listing(**more):
    return Listing(path="/admin/x", columns=COLUMNS, **{"sort": "name", **more})


def shown(asked):
    return "".join(one.name for one in asked.items(ALL, key=getattr, text=lambda one: one.name))


@pytest.mark.parametrize(
    ("asked", "names", "total"),
    [
        ({}, "Abcd", 4),
        ({"sort": "-name"}, "dcbA", 4),
        ({"sort": "age"}, "Acbd", 4),
        ({"sort": "-age"}, "dbcA", 4),
        ({"wanted": "B"}, "b", 1),
        ({"wanted": "none"}, "", 0),
        ({"size": 3, "part": 2}, "d", 4),
        ({"size": 3, "part": 9}, "d", 4),
    ],
)
def test_items(asked, names, total):
    made = listing(**asked)
    assert (shown(made), made.total) == (names, total)


def test_links_keep_what_was_asked_for():
    made = listing(wanted="a&b", sort="-age", part=2, size=1, kept={"state": "revoked"})
    shown(made)
    assert made.direction("age") == "descending"
    assert made.direction("name") == "none"
    assert made.sorted_by("age") == "/admin/x?q=a%26b&state=revoked&sort=age"
    assert made.sorted_by("name") == "/admin/x?q=a%26b&state=revoked&sort=name"
    assert made.at(1) == "/admin/x?q=a%26b&state=revoked&sort=-age"
    assert made.at(3) == "/admin/x?q=a%26b&state=revoked&sort=-age&part=3"
    assert (listing(sort="age").sorted_by("age")) == "/admin/x?sort=-age"
