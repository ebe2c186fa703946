"""Limits of a person, each with a refusal that says which it is and who can change it."""

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.accounts.limits import InstanceLimit
from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.errors import Conflict, TooMany
from dit4c_p2p.portal.instances.quota import (
    StartRate,
    check_instance_number,
    check_instances_at_once,
)

LIMITS = Limits(
    instances_per_person=3, instances_at_once_per_person=2, starts_per_minute_per_person=3
)


def test_in_all_and_at_once():
    three = InstanceLimit(3, "the limit of the group Soil", "an admin can change it")
    check_instance_number([State.EXITED] * 2, three)
    with pytest.raises(Conflict, match="3 instances, as many as you may have") as refused:
        check_instance_number([State.EXITED] * 3, three)
    assert "the limit of the group Soil is 3" in str(refused.value)
    assert "discard one" in refused.value.hint
    assert "an admin can change it" in refused.value.hint
    two = InstanceLimit(2, "the limit of your account", "an admin can change it")
    check_instances_at_once(1, two)
    with pytest.raises(Conflict, match="2 may at once") as refused:
        check_instances_at_once(2, two)
    assert "stop or discard one" in refused.value.hint
    assert "an admin can change it" in refused.value.hint


def test_who_may_have_none_is_not_told_to_discard_one():
    none = InstanceLimit(0, "the limit of your account", "an admin can change it")
    for check in (
        lambda: check_instance_number([], none),
        lambda: check_instances_at_once(0, none),
    ):
        with pytest.raises(Conflict) as refused:
            check()
        assert refused.value.hint == "an admin can change it"


def test_the_rate_is_of_the_last_minute_and_of_each_person():
    now = 1000.0
    rate = StartRate(lambda: now)
    for _ in range(3):
        rate.check("ada", LIMITS)
        now += 10
    now = 1020.0
    with pytest.raises(TooMany, match="started 3 within a minute") as refused:
        rate.check("ada", LIMITS)
    assert "try again in 40 s; an admin" in refused.value.hint
    rate.check("grace", LIMITS)
    now = 1060.0
    rate.check("ada", LIMITS)
    with pytest.raises(TooMany):
        rate.check("ada", LIMITS)
    now = 500.0  # the clock was set back
    rate.check("ada", LIMITS)
