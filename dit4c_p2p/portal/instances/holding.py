"""How many of a person's instances hold a place on a machine, for the limit of those at once."""

from collections.abc import Sequence

from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import InstanceOrder, StartAgain
from dit4c_p2p.portal.instances.actions import STARTABLE
from dit4c_p2p.portal.instances.quota import HOLDING
from dit4c_p2p.portal.models import Instance, Outgoing


async def instances_holding_places(instances: Sequence[Instance]) -> int:
    """Return how many hold a place on a machine, or are about to be started again."""
    held = {one.id for one in instances if State(one.state) in HOLDING}
    down = {one.id for one in instances if State(one.state) in STARTABLE}
    if down:
        orders = Outgoing.filter(body__contains=encode(StartAgain.__struct_config__.tag).decode())
        for body in await orders.values_list("body", flat=True):
            order: InstanceOrder = decode(str(body), InstanceOrder)  # type: ignore[arg-type]
            held |= down & {order.instance}
    return len(held)
