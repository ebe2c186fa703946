"""Whose machine a node is: a person's who lends it, or the institution's.

What an instance on another person's machine sees of its user's files depends on it, see
:mod:`dit4c_p2p.portal.storage.consent`.
"""

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.models import Peer, Person


async def set_owner_of_node(node: PeerName, owner: str | None) -> None:
    """Say whose machine a node is, in the caller's transaction.

    :param owner: the id of a person; None: the institution's.
    :raises BadRequest: there is no such person.
    :raises NotFound: there is no such node.
    """
    if owner is not None and not await Person.exists(id=owner):
        raise BadRequest(
            f"there is no person called {owner[:60]!r}",
            field="owner",
            hint="everybody's id is on the page People",
        )
    if node.kind is not Kind.NODE:
        raise NotFound("there is no such node")
    if not await Peer.filter(name=str(node)).update(owner=owner):
        raise NotFound("there is no such node")


async def owner_of(node: str | None) -> str | None:
    """The id of the person who lends a node (its peer name).

    None: the node is the institution's, or it is not known which one it is.
    """
    if node is None:
        return None
    peer = await Peer.get_or_none(name=node)
    return peer.owner if peer else None
