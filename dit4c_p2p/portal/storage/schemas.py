"""What the API takes and gives about keys of people, groups and storage; see ``portal.schemas``."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from dit4c_p2p.portal.accounts.schemas import LimitNumber
from dit4c_p2p.portal.http.request_body import Body
from dit4c_p2p.portal.keys.user_keys import UserKey, openssh_fingerprint
from dit4c_p2p.portal.models import Group, GroupMember, OwnerConsent
from dit4c_p2p.portal.schemas import Name, Page, Time, View, time_or_none, time_text
from dit4c_p2p.portal.storage.homes import MAX_QUOTA_BYTES, Home

_Id = Annotated[str, Meta(max_length=40)]

# ---- queries and bodies


class GroupsQuery(Page, frozen=True):
    """Which groups."""

    q: Annotated[str, Meta(max_length=100, description="only with this in their title or id")] = ""


class NewUserKey(Body, frozen=True):
    """``line`` is the line of the .pub file; ``name`` is its comment if left out."""

    line: Annotated[str, Meta(max_length=16 * 1024)]
    name: Name = ""


class NewGroup(Body, frozen=True):
    """``id`` is made from the title if it is left out; it never changes."""

    title: Name
    id: _Id = ""


class GroupChange(Body, frozen=True):
    """What is left out stays; a closed group shares nothing, and keeps its files and members.

    The limits are of each member: how many instances in all, and at once on machines; null is what
    the settings say.
    """

    title: Name | UnsetType = UNSET
    closed: bool | UnsetType = UNSET
    instances_limit: LimitNumber | UnsetType | None = UNSET
    instances_at_once_limit: LimitNumber | UnsetType | None = UNSET


class NewMember(Body, frozen=True):
    """A person and what they may do in the group; again changes that."""

    person: _Id
    write: bool = False
    manage: bool = False


class StorageChange(Body, frozen=True):
    """What is left out stays; ``quota_bytes`` null is what the settings say.

    Another ``server`` moves no file.
    """

    quota_bytes: Annotated[int, Meta(ge=0, le=MAX_QUOTA_BYTES)] | UnsetType | None = UNSET
    server: _Id | UnsetType = UNSET


class NewConsent(Body, frozen=True):
    """``owner`` is the id of the person who lends machines."""

    owner: _Id


class NodeChange(Body, frozen=True):
    """``owner`` is the id of the person who lends the machine; null is the institution's."""

    owner: _Id | None


# ---- answers


class UserKeyView(View, frozen=True):
    """A person's SSH key. A pending one has not logged in yet and ends at ``expires``.

    ``openssh`` is the fingerprint as OpenSSH prints it.
    """

    fingerprint: str
    openssh: str
    name: str
    algorithm: str
    state: str
    added: Time
    expires: Time | None
    last_used: Time | None


class GroupView(View, frozen=True):
    """A group; its folder is ``/mnt/shared/<id>`` in an instance."""

    id: str
    title: str
    created: Time
    closed: bool
    instances_limit: int | None = None
    instances_at_once_limit: int | None = None


class MemberView(View, frozen=True):
    """A member of a group."""

    person: str
    name: str
    write: bool
    manage: bool


class StorageView(View, frozen=True):
    """Where files are and how much there may be; ``server`` null is nowhere yet.

    ``quota_bytes`` null is no limit; ``chosen`` tells whether an admin has chosen it.
    """

    server: str | None
    quota_bytes: int | None
    chosen: bool


class ConsentView(View, frozen=True):
    """A person lets the machines of ``owner`` open their files."""

    owner: str
    given: Time


class NodeOwnerView(View, frozen=True):
    """Whose machine a node is; null is the institution's."""

    id: str
    owner: str | None


def consent_view(consent: OwnerConsent) -> ConsentView:
    """The API's form of a consent."""
    return ConsentView(owner=consent.owner, given=time_text(consent.given_at))


def key_view(key: UserKey) -> UserKeyView:
    """The API's form of a person's key."""
    return UserKeyView(
        fingerprint=key.fingerprint,
        openssh=openssh_fingerprint(key.fingerprint),
        name=key.label,
        algorithm=key.algorithm,
        state="pending" if key.pending else "proved",
        added=time_text(key.added_at),
        expires=time_or_none(key.expires_at),
        last_used=time_or_none(key.last_used_at),
    )


def group_view(group: Group) -> GroupView:
    """The API's form of a group."""
    return GroupView(
        id=group.id,
        title=group.title,
        created=time_text(group.created_at),
        closed=group.closed_at is not None,
        instances_limit=group.instances_limit,
        instances_at_once_limit=group.instances_at_once_limit,
    )


def member_view(member: GroupMember) -> MemberView:
    """The API's form of a member whose person has been fetched."""
    return MemberView(
        person=member.person_id,
        name=member.person.name,
        write=member.writes,
        manage=member.manages,
    )


def storage_view(home: Home) -> StorageView:
    """The API's form of a tree's home."""
    return StorageView(server=home.server, quota_bytes=home.quota_bytes, chosen=home.chosen_quota)
