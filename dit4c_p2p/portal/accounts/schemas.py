"""What the API takes and gives about accounts, limits and deletion; see ``portal.schemas``."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dit4c_p2p.portal.accounts.limits import MAX_INSTANCES
from dit4c_p2p.portal.http.request_body import Body
from dit4c_p2p.portal.schemas import Moment, Name, View

LimitNumber = Annotated[int, Meta(ge=0, le=MAX_INSTANCES)]


class PersonChange(Body, frozen=True):
    """What is left out stays; ``ends`` null is no end.

    ``instances_limit`` is how many instances in all, ``instances_at_once_limit`` how many at once
    on machines; null is what the person's groups or the settings say. Whoever disables or demotes
    themselves says ``own`` as well: only another admin can undo it.
    """

    name: Name | UnsetType = UNSET
    ends: Moment | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    admin: bool | UnsetType = UNSET
    instances_limit: LimitNumber | UnsetType | None = UNSET
    instances_at_once_limit: LimitNumber | UnsetType | None = UNSET
    own: bool = False


class PersonDeletion(Body, frozen=True):
    """``confirm`` is the person's id once more. Whoever deletes themselves says ``own`` as well."""

    confirm: Annotated[str, Meta(max_length=40)]
    own: bool = False


class LimitView(msgspec.Struct, frozen=True):
    """A limit that counts for a person; ``of`` says in words whose it is."""

    number: int
    of: str


class LimitsView(View, frozen=True):
    """How many instances a person may have: in all, and at once on machines."""

    instances: LimitView
    instances_at_once: LimitView


class DeletionView(View, frozen=True):
    """What was deleted with an account; files and images are removed within minutes."""

    id: str
    instances: int
    ssh_keys: int
