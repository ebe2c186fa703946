"""Placement of an instance on a node, as pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dit4c_p2p.messages.node import NodeDescription


@dataclass(frozen=True)
class PlaceOnNode:
    """The instance goes to ``node``, a peer name."""

    node: str


@dataclass(frozen=True)
class WaitForPlace:
    """No node has a place now; ``info`` tells the instance's user why."""

    info: str


def choose_node(
    known: Collection[str],
    described: Mapping[str, NodeDescription],
    placed: Mapping[str, int],
    *,
    moved: bool = False,
    wanted: str = "",
) -> PlaceOnNode | WaitForPlace:
    """Return the node with the fewest pods for its size, the first by name among equals.

    :param known: the peer names of all nodes that the scheduler has.
    :param described: what the nodes that answer say of themselves, by peer name.
    :param placed: how many instances the scheduler has placed on each node, by peer name. One
        that has no pod yet counts only here; a pod the scheduler doesn't know of, only there.
    :param moved: it goes on from another node, which is not among these.
    :param wanted: the peer name of the one that its user has chosen; empty: any.
    """
    if wanted:
        return _choose_wanted_node(wanted, known, described, placed)
    if moved and not known:
        return WaitForPlace("Waiting for another machine: this cluster has no other")
    if not known:
        return WaitForPlace("Waiting for a machine: none belongs to this cluster yet")
    if not described:
        return WaitForPlace("Waiting for a machine: none answers at the moment")
    load = {
        name: max(node.pods, placed.get(name, 0)) / node.max_pods
        for name, node in described.items()
        if not node.paused and node.max_pods > max(node.pods, placed.get(name, 0))
    }
    if not load:
        silent = len(known) - len(described)
        does = "does" if silent == 1 else "do"
        others = f", and {silent} {does} not answer" if silent > 0 else ""
        if all(node.paused for node in described.values()):
            return WaitForPlace(f"Waiting for a machine: their owners have paused all{others}")
        word = "full or paused" if any(node.paused for node in described.values()) else "full"
        return WaitForPlace(f"Waiting for a machine: all are {word}{others}")
    return PlaceOnNode(min(load, key=lambda name: (load[name], name)))


def _choose_wanted_node(
    wanted: str,
    known: Collection[str],
    described: Mapping[str, NodeDescription],
    placed: Mapping[str, int],
) -> PlaceOnNode | WaitForPlace:
    node, name = described.get(wanted), wanted.partition("-")[2]
    if wanted not in known:
        why = "it does not belong to this cluster any more"
    elif node is None:
        why = "it does not answer at the moment"
    elif node.paused:
        why = "its owner has paused it"
    elif node.max_pods > max(node.pods, placed.get(wanted, 0)):
        return PlaceOnNode(wanted)
    else:
        why = "it is full"
    return WaitForPlace(f"Waiting for the machine {name}, which you chose: {why}")
