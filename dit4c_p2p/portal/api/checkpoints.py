"""``checkpoints``: how often the files of a person's instances are saved while they run."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.http.token_auth import check_self_or_admin
from dit4c_p2p.portal.models import Person
from dit4c_p2p.portal.schemas import CheckpointInterval, CheckpointIntervalView


async def get_interval(call: Call) -> CheckpointIntervalView:
    """What a person has chosen, and what counts; anybody may see their own."""
    check_self_or_admin(call.who, call.path("id"))
    return checkpoint_interval_view(
        await people.get_person(call.path("id")), call.parts.config.limits
    )


async def set_interval(call: Call, body: CheckpointInterval) -> CheckpointIntervalView:
    """Choose it for oneself, or as an admin for somebody."""
    check_self_or_admin(call.who, call.path("id"))
    return checkpoint_interval_view(
        await choose_checkpoint_interval(call.path("id"), body.minutes), call.parts.config.limits
    )


async def choose_checkpoint_interval(id: str, minutes: int | None) -> Person:
    """Write down how often checkpoints of a person's instances are made.

    :raises NotFound: no such person.
    """
    async with in_transaction("portal"):
        person = await people.get_person(id)
        person.checkpoint_minutes = minutes
        await person.save(update_fields=["checkpoint_minutes"])
    return person


def checkpoint_interval_view(person: Person, limits: Limits) -> CheckpointIntervalView:
    """The API's form of what a person has chosen."""
    chosen = person.checkpoint_minutes
    usual = limits.checkpoint_minutes
    return CheckpointIntervalView(
        minutes=chosen, in_force_minutes=usual if chosen is None else chosen
    )


ENDPOINTS = (
    Endpoint("GET", "people/{id}/checkpoints", get_interval),
    Endpoint("PATCH", "people/{id}/checkpoints", set_interval),
)
