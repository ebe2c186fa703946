"""The fields of a form for how many instances a person, or each member of a group, may have."""

from collections.abc import Mapping

from dit4c_p2p.portal.accounts.limits import MAX_INSTANCES, LimitsChange
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import Group, Person


def limit_fields(row: Person | Group) -> dict[str, str]:
    """Return the form's values of the limits chosen for a person or a group."""
    return {
        "instances_limit": _text_for_limits_page(row.instances_limit),
        "instances_at_once_limit": _text_for_limits_page(row.instances_at_once_limit),
    }


def limits_in(form: Mapping[str, str]) -> LimitsChange:
    """Return the limits that a form chooses; an empty field removes one.

    :raises BadRequest: a field holds no number from 0 to ``MAX_INSTANCES``.
    """
    return LimitsChange(
        _number_for_limits_page(form.get("instances_limit", ""), "instances_limit"),
        _number_for_limits_page(form.get("instances_at_once_limit", ""), "instances_at_once_limit"),
    )


def _number_for_limits_page(text: str, field: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_INSTANCES))):
        raise BadRequest(
            f"a limit is a number from 0 to {MAX_INSTANCES}",
            field=field,
            hint="leave it empty for no limit of its own",
        )
    return int(text)


def _text_for_limits_page(number: int | None) -> str:
    return "" if number is None else str(number)
