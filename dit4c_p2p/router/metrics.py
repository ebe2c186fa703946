"""Metrics of a router.

Bytes are summed by the two ends of each stream while they move, and counted here once, when the
stream has ended: nothing is added to what each chunk costs but an addition.
"""

from prometheus_client import Counter, Gauge

from dit4c_p2p.observe.metrics import PeerMetrics


class RouterMetrics(PeerMetrics):
    """See ``docs/observability.md`` for each."""

    def __init__(self) -> None:
        super().__init__("router")
        to = self.registry
        self.tunnels = Gauge("dit4c_tunnels", "Names that peers listen for here.", registry=to)
        self.ssh_connections = Gauge(
            "dit4c_ssh_connections", "SSH connections, those before login included.", registry=to
        )
        self.channels = Gauge("dit4c_channels", "Streams through SSH connections.", registry=to)
        self.visitors = Gauge("dit4c_connections", "Visitors connected.", registry=to)
        self.refused = Counter(
            "dit4c_ssh_refused", "What peers were refused.", ["reason"], registry=to
        )
        self.pages = Counter(
            "dit4c_router_pages",
            "Visitors that got a page instead of an instance.",
            ["status"],
            registry=to,
        )
        moved = Counter(
            "dit4c_bytes",
            "Bytes between visitors and instances, of streams that have ended.",
            ["direction"],
            registry=to,
        )
        self.from_visitors = moved.labels("from_visitor").inc
        self.to_visitors = moved.labels("to_visitor").inc
