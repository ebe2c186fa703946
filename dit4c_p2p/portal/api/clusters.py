"""``clusters``: the schedulers and their nodes."""

from typing import Literal

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.link import ClusterState
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.models import Peer, SshKey
from dit4c_p2p.portal.paging import part_of_items
from dit4c_p2p.portal.schemas import ClusterView, NodeView, Page, time_text


async def list_clusters(call: Call, query: Page) -> list[ClusterView]:
    """Every scheduler whose key is in force, with its nodes: which of them it reaches now."""
    in_force = {key.name for key in await SshKey.filter(revoked_at=None).only("name")}
    peers = [peer for peer in await Peer.all().order_by("name") if peer.name in in_force]
    schedulers = [peer for peer in peers if PeerName.parse(peer.name).kind is Kind.SCHEDULER]
    found, cursor = part_of_items(
        schedulers, query.limit, query.cursor, place=lambda peer: (0.0, peer.name)
    )
    call.next_page(cursor)
    links = call.parts.links
    clusters = []
    for peer in found:
        name = PeerName.parse(peer.name)
        cluster = links.cluster(name.id)
        nodes = [node.name for node in peers if node.scheduler == name.id]
        clusters.append(
            ClusterView(
                id=name.id,
                name=peer.name,
                connected=links.connected(name.id),
                since=_node_up_since(call, peer.name),
                nodes=[_node_view(call, node, cluster) for node in nodes],
            )
        )
    return clusters


def _node_view(call: Call, name: str, cluster: ClusterState | None) -> NodeView:
    contact = call.parts.reach.contact(name)
    return NodeView(
        id=PeerName.parse(name).id,
        name=name,
        state=_node_state(name, cluster),
        since=_node_up_since(call, name),
        trouble=contact.trouble if contact else "",
    )


def _node_up_since(call: Call, peer: str) -> str | None:
    contact = call.parts.reach.contact(peer)
    return time_text(contact.since) if contact else None


def _node_state(node: str, cluster: ClusterState | None) -> Literal["up", "down", "unknown"]:
    if cluster is None:
        return "unknown"
    if node in cluster.nodes_up:
        return "up"
    return "down" if node in cluster.nodes_down else "unknown"


ENDPOINTS = (Endpoint("GET", "clusters", list_clusters),)
