"""The machines that a person can choose among for a new instance."""

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.models import Peer


async def reached_machines(scheduler: str, reach: Reachability) -> list[str]:
    """Return the ids of a scheduler's nodes that are reached now, in order."""
    names = await Peer.filter(scheduler=scheduler, name__startswith=f"{Kind.NODE}-").values_list(
        "name", flat=True
    )
    up = [str(name) for name in names if (at := reach.contact(str(name))) is not None and at.up]
    return sorted(PeerName.parse(name).id for name in up)


async def chosen_machine(scheduler: str, id: str) -> str:
    """Return the peer name of the machine that a person has chosen; empty for none.

    :raises BadRequest: the scheduler has no such machine.
    """
    if not id:
        return ""
    try:
        name = str(PeerName(Kind.NODE, id))
    except InvalidName:
        name = ""
    if not name or not await Peer.exists(name=name, scheduler=scheduler):
        raise BadRequest("there is no such machine", field="machine", hint="leave it out for any")
    return name
