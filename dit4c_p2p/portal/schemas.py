"""Records of the API, which check requests, form responses, and document both.

Inputs (:class:`~dit4c_p2p.portal.http.request_body.Body`) refuse what they don't know; answers
(:class:`View`) may gain fields. Times are RFC 3339 in UTC.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.accounts import invitations, people
from dit4c_p2p.portal.accounts.api_tokens import MAX_DAYS, Scope
from dit4c_p2p.portal.accounts.names import MAX_NAME_CHARS
from dit4c_p2p.portal.http.request_body import Body
from dit4c_p2p.portal.paging import MAX_CURSOR_CHARS, MAX_LIMIT
from dit4c_p2p.portal.tools import MAX_DESCRIPTION_CHARS, MAX_ICON_CHARS

_MAX_LINES = 2000
MAX_LINK_HOURS = 30 * 24

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Name = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Reference = Annotated[str, Meta(max_length=400)]
Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARS)]
Icon = Annotated[str, Meta(max_length=MAX_ICON_CHARS)]
# How often, in minutes: at most once a week.
Minutes = Annotated[int, Meta(ge=0, le=7 * 24 * 60)]
GroupIds = Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=50)]
Moment = Annotated[datetime, Meta(tz=True, description="with a time zone, such as a closing Z")]


def time_text(at: float, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """A time as the API writes it: ``2026-09-21T10:00:00Z``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def time_or_none(at: float | None) -> str | None:
    """:func:`time_text`, or None."""
    return None if at is None else time_text(at)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of responses."""


# ---- queries


class NoQuery(Body, frozen=True):
    """No parameter is known."""


class Page(Body, frozen=True):
    """Which part of a list: the ``Link`` header with ``rel="next"`` leads to the one after."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="how many at most")] = MAX_LIMIT
    cursor: Annotated[
        str, Meta(max_length=MAX_CURSOR_CHARS, description="as a Link header gave it")
    ] = ""


class InstancesQuery(Page, frozen=True):
    """Which instances."""

    all: Annotated[bool, Meta(description="discarded ones too")] = False
    state: Annotated[State | UnsetType, Meta(description="only those in this state")] = UNSET
    image: Annotated[str, Meta(max_length=100, description="only of the image of this name")] = ""
    q: Annotated[str, Meta(max_length=100, description="only with this in their name")] = ""


class LogsQuery(Body, frozen=True):
    """How much of a log."""

    lines: Annotated[int, Meta(ge=1, le=_MAX_LINES)] = 200


class PeopleQuery(Page, frozen=True):
    """Which people."""

    state: Annotated[people.State | UnsetType, Meta(description="only those in this state")] = UNSET
    q: Annotated[str, Meta(max_length=100, description="only with this in their name or id")] = ""


class ToolsQuery(Page, frozen=True):
    """Which tools."""

    offered: Annotated[bool | UnsetType, Meta(description="only those that are, or are not")] = (
        UNSET
    )


class KeysQuery(Page, frozen=True):
    """Which keys."""

    kind: Annotated[Kind | UnsetType, Meta(description="only of peers of this kind")] = UNSET
    in_force: Annotated[bool | UnsetType, Meta(description="only those that are, or are not")] = (
        UNSET
    )


# ---- bodies


class NewInstance(Body, frozen=True):
    """``image``: one of the catalogue's, by name or id; or ``from``: an instance of one's own, from
    whose saved files the new one goes on, or from those that the machine ``kept_on`` keeps.
    ``machine``: the id of the one that an image is to run on; any if left out."""

    image: Reference = ""
    name: Name = ""
    source: Annotated[str, Meta(max_length=40)] = msgspec.field(default="", name="from")
    kept_on: Annotated[str, Meta(max_length=52)] = ""
    machine: Annotated[str, Meta(max_length=40)] = ""


class NewShare(Body, frozen=True):
    """A link that is good for so many days."""

    days: Annotated[int, Meta(ge=1, le=365)] = 7


class SharedName(Body, frozen=True):
    """What the copy is to be called; that of the original if none is given."""

    name: Name = ""


class InstanceChange(Body, frozen=True):
    """What is left out stays. ``checkpoint_minutes``: how often a checkpoint is made, 0 for never,
    null as its person has it.
    """

    name: Name | UnsetType = UNSET
    checkpoint_minutes: Minutes | UnsetType | None = UNSET


class CheckpointInterval(Body, frozen=True):
    """How often checkpoints are made, in minutes: 0 for never, null as the installation has it."""

    minutes: Minutes | None


class NewTool(Body, frozen=True):
    """Something to be offered; ``image`` is by tag or by digest, ``icon`` one or two letters.

    ``groups`` are the ids of those whose members alone it is offered to; none: to everyone.
    ``unchecked``: whether or not a machine can have the image, which is by digest then.
    """

    name: Annotated[str, Meta(max_length=40)]
    title: Name
    image: Reference
    description: Description = ""
    icon: Icon = ""
    groups: GroupIds = []
    unchecked: bool = False


class ToolChange(Body, frozen=True):
    """A change of a tool; missing fields stay; ``offered`` false withdraws it.

    ``groups`` and ``unchecked`` as in a new tool; an empty list offers it to everyone.
    """

    title: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    icon: Icon | UnsetType = UNSET
    image: Reference | UnsetType = UNSET
    offered: bool | UnsetType = UNSET
    groups: GroupIds | UnsetType = UNSET
    unchecked: bool = False


class NewPerson(Body, frozen=True):
    """Somebody to be invited; ``id`` is made from the name if it is left out."""

    name: Name
    id: Annotated[str, Meta(max_length=40)] = ""
    admin: bool = False
    ends: Moment | None = None
    link_hours: Annotated[int, Meta(ge=1, le=MAX_LINK_HOURS)] = 7 * 24


class NewInvitation(Body, frozen=True):
    """A link for ``uses`` people; ``group`` is the id of one that they come into.

    ``expires`` ends the link, ``ends`` their accounts.
    """

    label: Name
    expires: Moment
    uses: Annotated[int, Meta(ge=1, le=invitations.MAX_USES)] = 1
    admin: bool = False
    group: Annotated[str, Meta(max_length=40)] = ""
    ends: Moment | None = None


class NewLoginLink(Body, frozen=True):
    """How long the link may be used."""

    link_hours: Annotated[int, Meta(ge=1, le=MAX_LINK_HOURS)] = 24


class NewToken(Body, frozen=True):
    """Without the scope ``admin`` never what only admins may, whoever its person is."""

    label: Name
    days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] = 90
    scopes: Annotated[
        list[Scope],
        Meta(min_length=1, max_length=3, description="instances:read and instances:write usually"),
    ] = msgspec.field(default_factory=lambda: ["instances:read", "instances:write"])


class NewPullSecret(Body, frozen=True):
    """``hours``: how long it is good for."""

    hours: Annotated[int, Meta(ge=1, le=24 * 7)] = 24


# ---- answers


class Problem(View, frozen=True):
    """RFC 9457; ``code`` is a stable word, ``field`` names what is wrong if one thing is."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | UnsetType = UNSET


class ImageView(View, frozen=True):
    """An image of the catalogue."""

    name: str
    title: str
    description: str
    image: str
    icon: str


class ToolView(ImageView, frozen=True):
    """An image of the catalogue as admins see it; ``added_by`` is the id of a person.

    ``groups`` are the ids of those whose members alone it is offered to; none: to everyone.
    """

    source: Literal["configuration", "added"]
    offered: bool
    added: Time | None
    added_by: str | None
    groups: list[str]


class CheckpointIntervalView(View, frozen=True):
    """How often checkpoints of a person's instances are made, in minutes; 0 is never.

    ``minutes`` is what was chosen, null for nothing; ``in_force_minutes`` what counts.
    """

    minutes: int | None
    in_force_minutes: int


class RelativeView(View, frozen=True):
    """An instance in a tree of those that were started from each other.

    ``parent`` is the id of the one that it was started from, or empty; ``depth`` is 0 for the
    oldest. What is somebody else's has no id, name and state. ``new_bytes`` is what was new in what
    was saved of it last, ``total_bytes`` all of that.
    """

    id: str
    name: str
    parent: str
    depth: int
    state: str
    saved: Time | None
    saved_by: str
    new_bytes: int
    total_bytes: int


class ShareUseView(View, frozen=True):
    """Somebody used a link; ``what`` is ``copy`` or ``export``."""

    person: str
    what: str
    at: Time


class ShareView(View, frozen=True):
    """A link to what was saved; ``url`` is empty but for the first time."""

    id: str
    url: str
    created: Time
    ends: Time
    revoked: Time | None
    uses: list[ShareUseView]


class NodeView(View, frozen=True, omit_defaults=True):
    """A machine; unknown is one whose scheduler is not connected, or has not spoken of it.

    ``since``: when it was reached again, or was heard last, by what was told last. ``trouble``: why
    it is not reached.
    """

    id: str
    name: str
    state: Literal["up", "down", "unknown"]
    since: Time | None = None
    trouble: str = ""


class ClusterView(View, frozen=True):
    """A scheduler and its machines; ``since`` when it is connected, or is not."""

    id: str
    name: str
    connected: bool
    since: Time | None
    nodes: list[NodeView]


class KeyView(View, frozen=True):
    """A published key and its holder."""

    fingerprint: str
    name: str
    kind: str
    id: str
    published: Time
    revoked: Time | None
    last_seen: Time | None
    in_force: bool


class ChallengeView(View, frozen=True):
    """What a new key has to sign, within ``expires_in`` seconds."""

    nonce: str
    expires_in: int


class CallerView(View, frozen=True):
    """Who the portal takes the caller for; ``admin`` is what this token may."""

    kind: str
    id: str
    name: str
    admin: bool


class PersonView(View, frozen=True):
    """An account; ``state`` invited is one whose person has not been seen yet."""

    id: str
    name: str
    admin: bool
    state: people.State
    created: Time
    ends: Time | None
    last_seen: Time | None
    instances_limit: int | None
    instances_at_once_limit: int | None


class LoginLinkView(View, frozen=True):
    """A link that logs its person in once; it is shown this one time."""

    url: str
    expires: Time


class InvitedView(PersonView, frozen=True):
    """A new account with its first link."""

    login: LoginLinkView


class InvitationView(View, frozen=True):
    """A link by which people make accounts; ``used`` of ``uses`` have."""

    id: str
    label: str
    state: invitations.State
    uses: int
    used: int
    expires: Time
    admin: bool
    group: str
    ends: Time | None
    created: Time
    made_by: str


class NewInvitationView(InvitationView, frozen=True):
    """An invitation just made; its URL is shown this one time."""

    url: str


class TokenView(View, frozen=True):
    """A token for this API, without its text."""

    id: str
    label: str
    scopes: list[Scope]
    created: Time
    expires: Time | None
    last_used: Time | None


class NewTokenView(TokenView, frozen=True):
    """A token just made; its text is shown this one time."""

    token: str


class PullSecretView(View, frozen=True):
    """What ``docker login REGISTRY`` asks for, and what ``docker pull`` is given then; the secret
    is shown this one time.
    """

    registry: str
    user: str
    secret: str
    image: str
    ends: Time


class PullSecretEntry(View, frozen=True):
    """A secret that is in force; ``used``: when it was used last."""

    id: str
    created: Time
    ends: Time
    used: Time | None


def to_json(data: Any) -> bytes:
    """A record, or a list of them, as a line."""
    return msgspec.json.encode(data) + b"\n"
