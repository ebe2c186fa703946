"""How many instances a person may have: the person's own limit, their groups' or the settings'.

A limit that an admin chose for the person counts. Without one, the highest limit among the person's
open groups counts; without that, the one of the portal's settings.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.models import Group, GroupMember, Person

MAX_INSTANCES = 10_000


@dataclass(frozen=True)
class InstanceLimit:
    """A number of instances. ``of`` says in words whose limit it is, ``change`` who changes it."""

    number: int
    of: str
    change: str


@dataclass(frozen=True)
class InstanceLimits:
    """What one person may have: instances in all, and at once on machines."""

    in_all: InstanceLimit
    at_once: InstanceLimit


@dataclass(frozen=True)
class LimitsChange:
    """Limits that an admin chooses for a person or a group; None removes one, UNSET keeps it."""

    instances: int | UnsetType | None = UNSET
    at_once: int | UnsetType | None = UNSET

    def apply(self, row: Person | Group) -> bool:
        """Set the limits of ``row``, which the caller saves; return whether anything was given.

        :raises BadRequest: a limit is not between 0 and :data:`MAX_INSTANCES`.
        """
        if self.instances is not UNSET:
            row.instances_limit = _checked_limit(self.instances, "instances_limit")
        if self.at_once is not UNSET:
            row.instances_at_once_limit = _checked_limit(self.at_once, "instances_at_once_limit")
        return self.instances is not UNSET or self.at_once is not UNSET


KEEP_LIMITS = LimitsChange()


async def limits_of_person(person_id: str, settings: Limits) -> InstanceLimits:
    """Return the limits that count for a person now.

    :raises NotFound: no such person.
    """
    person = await Person.get_or_none(id=person_id, deleted_at=None)
    if person is None:
        raise NotFound("there is no such person")
    members = GroupMember.filter(person_id=person_id, group__closed_at=None)
    rows = await members.prefetch_related("group").order_by("group_id")
    groups = [member.group for member in rows]
    return effective_limits(person, groups, settings)


def effective_limits(person: Person, groups: Iterable[Group], settings: Limits) -> InstanceLimits:
    """Return the limits of a person who is in these open groups. Pure."""
    found = list(groups)
    return InstanceLimits(
        in_all=_chosen_limit(
            person.instances_limit,
            [(group.instances_limit, group) for group in found],
            settings.instances_per_person,
        ),
        at_once=_chosen_limit(
            person.instances_at_once_limit,
            [(group.instances_at_once_limit, group) for group in found],
            settings.instances_at_once_per_person,
        ),
    )


def limits_text(row: Person | Group) -> str:
    """Return the limits chosen for a person or a group, for the audit log."""
    in_all, at_once = row.instances_limit, row.instances_at_once_limit
    return f"instances {_limit_text(in_all)}, at once {_limit_text(at_once)}"


def _limit_text(number: int | None) -> str:
    return "not chosen" if number is None else str(number)


def _chosen_limit(
    own: int | None, of_groups: list[tuple[int | None, Group]], setting: int
) -> InstanceLimit:
    if own is not None:
        return InstanceLimit(
            own, "the limit of your account", "an admin can change it on your account's page"
        )
    chosen = [(number, group) for number, group in of_groups if number is not None]
    if chosen:
        number, group = max(chosen, key=lambda pair: pair[0])
        return InstanceLimit(
            number,
            f"the limit of the group {group.title}",
            "an admin can change it on the group’s page",
        )
    return InstanceLimit(
        setting,
        "the limit for everyone",
        "an admin can change this limit in the portal's settings, or for you or your group alone",
    )


def _checked_limit(number: int | None, field: str) -> int | None:
    if number is not None and not 0 <= number <= MAX_INSTANCES:
        raise BadRequest(f"a limit is a number from 0 to {MAX_INSTANCES}", field=field)
    return number
