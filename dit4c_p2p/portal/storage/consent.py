"""Consent: whose machines may open whose files.

A node may be lent by a person, its owner, who can read what is opened there. An instance on another
person's machine sees its own folder alone until its user has agreed to that owner, once.
"""

from collections.abc import Iterable

from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.keys.owners import owner_of
from dit4c_p2p.portal.models import Instance, OwnerConsent, Peer, Person


async def may_open_files(instance: Instance) -> bool:
    """Whether an instance's person lets their files be opened on the machine that it runs on."""
    owner = await owner_of(instance.node)
    if owner is None or owner == instance.owner_id:
        return True
    return await OwnerConsent.exists(person_id=instance.owner_id, owner=owner)


async def lenders(instances: Iterable[Instance]) -> dict[str, Person]:
    """For instances of one person, by id: whose consent they wait for. Others are left out."""
    found = [one for one in instances if one.node is not None and one.state not in FINAL]
    nodes = {one.node for one in found}
    if not nodes:
        return {}
    owners = {
        peer.name: peer.owner
        for peer in await Peer.filter(name__in=list(nodes), owner__isnull=False)
    }
    if not owners:
        return {}
    person = found[0].owner_id
    agreed = {one.owner for one in await OwnerConsent.filter(person_id=person)}
    people = {one.id: one for one in await Person.filter(id__in=list(owners.values()))}
    waits = {}
    for instance in found:
        owner = owners.get(str(instance.node))
        if owner in people and owner != person and owner not in agreed:
            waits[instance.id] = people[owner]
    return waits


async def lender(owner: str, person: str) -> Person:
    """A person who lends machines to others.

    :param person: who asks; nobody lends machines to themselves.
    :raises NotFound: there is no such person, or they lend none.
    """
    found = await Person.get_or_none(id=owner)
    if found is None or owner == person or not await Peer.exists(owner=owner):
        raise NotFound("nobody of this name lends a machine")
    return found


async def nodes_of(owner: str) -> list[str]:
    """The names of the nodes that a person lends."""
    return [peer.name for peer in await Peer.filter(owner=owner).order_by("name")]


async def given_by(person: str) -> list[OwnerConsent]:
    """A person's consents, the newest first."""
    return await OwnerConsent.filter(person_id=person).order_by("-given_at", "owner")


async def give(person: str, owner: str, now: float) -> bool:
    """Let ``owner``'s machines open a person's files, in the caller's transaction.

    Returns whether that is new.

    :raises NotFound: the owner lends no machine.
    """
    await lender(owner, person)
    _, new = await OwnerConsent.get_or_create(
        person_id=person, owner=owner, defaults={"given_at": now}
    )
    return new


async def withdraw(person: str, owner: str) -> None:
    """Take a consent back, in the caller's transaction.

    :raises NotFound: there is none.
    """
    if not await OwnerConsent.filter(person_id=person, owner=owner).delete():
        raise NotFound("you have not agreed to this owner")
