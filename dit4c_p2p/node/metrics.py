"""Metrics of a node agent."""

from prometheus_client import Counter, Gauge, Histogram

from dit4c_p2p.observe.metrics import PeerMetrics

# An engine answers in milliseconds, and in seconds under load; stopping waits for the app.
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ACTIONS = frozenset({"archive", "create", "exec", "json", "start", "stop"})


class NodeMetrics(PeerMetrics):
    """See ``docs/observability.md`` for each."""

    def __init__(self) -> None:
        super().__init__("node")
        to = self.registry
        self.pods = Gauge(
            "dit4c_pods", "Pods here, by the state of their app's container.", ["state"],
            registry=to,
        )  # fmt: skip
        self.engine_seconds = Histogram(
            "dit4c_engine_call_seconds", "Calls of the container engine.", ["call"],
            buckets=_CALL_BUCKETS, registry=to,
        )  # fmt: skip
        self.verbs = Counter(
            "dit4c_verbs", "What the scheduler asked for.", ["verb", "outcome"], registry=to
        )
        self.routers = Gauge(
            "dit4c_routers_listening", "Routers at which the scheduler finds this node.",
            registry=to,
        )  # fmt: skip

    def called(self, method: str, path: str, seconds: float) -> None:
        """The engine has answered, or not; ``path`` has ids in it, which are no labels."""
        kind, *rest = path.split("/")
        action = f" {rest[-1]}" if rest and rest[-1] in _ACTIONS else ""
        self.engine_seconds.labels(f"{method} {kind}{action}").observe(seconds)

    def answered(self, verb: str, code: str) -> None:
        """A verb has ended; ``code`` says what was wrong, empty for nothing."""
        self.verbs.labels(verb, code or "done").inc()
