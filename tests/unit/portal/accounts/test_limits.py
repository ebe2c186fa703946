"""Which of several limits counts for a person."""

import pytest
from msgspec import UNSET

from dit4c_p2p.portal.accounts.limits import MAX_INSTANCES, LimitsChange, effective_limits
from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import Group, Person

SETTINGS = Limits(instances_per_person=10, instances_at_once_per_person=5)


def person(in_all=None, at_once=None):
    return Person(id="ada", name="Ada", instances_limit=in_all, instances_at_once_limit=at_once)


def group(id, in_all=None, at_once=None):
    return Group(id=id, title=id.title(), instances_limit=in_all, instances_at_once_limit=at_once)


@pytest.mark.parametrize(
    ("own", "groups", "number", "of"),
    [
        (None, [], 10, "the limit for everyone"),
        (None, [group("soil")], 10, "the limit for everyone"),
        (None, [group("soil", 2)], 2, "the limit of the group Soil"),
        (None, [group("soil", 2), group("air", 20)], 20, "the limit of the group Air"),
        (3, [group("air", 20)], 3, "the limit of your account"),
        (0, [], 0, "the limit of your account"),
    ],
)
def test_which_limit_counts(own, groups, number, of):
    found = effective_limits(person(own), groups, SETTINGS)
    assert (found.in_all.number, found.in_all.of) == (number, of)
    assert (found.at_once.number, found.at_once.of) == (5, "the limit for everyone")
    assert "admin" in found.in_all.change


def test_a_change_sets_removes_and_keeps():
    row = person(3, 2)
    assert LimitsChange(None, UNSET).apply(row)
    assert (row.instances_limit, row.instances_at_once_limit) == (None, 2)
    assert not LimitsChange().apply(row)
    for wrong in (-1, MAX_INSTANCES + 1):
        with pytest.raises(BadRequest, match="a number from 0"):
            LimitsChange(wrong).apply(row)
