"""Metrics of a scheduler."""

import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from dit4c_p2p.messages.instances import State
from dit4c_p2p.observe.metrics import START_BUCKETS, PeerMetrics

_ON_THE_WAY = frozenset({State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING})


class SchedulerMetrics(PeerMetrics):
    """See ``docs/observability.md`` for each.

    :param clock: seconds, from anywhere.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("scheduler")
        to = self.registry
        self._clock = clock
        self._began: dict[str, float] = {}
        self.start_seconds = Histogram(
            "dit4c_instance_start_seconds",
            "From an instance's order, or that it is to start again, until it runs.",
            buckets=START_BUCKETS,
            registry=to,
        )
        self.transitions = Counter(
            "dit4c_instance_transitions", "Instances that came into a state.", ["state"],
            registry=to,
        )  # fmt: skip
        self.instances = Gauge(
            "dit4c_instances", "Instances that are not discarded.", ["state"], registry=to
        )
        self.nodes = Gauge("dit4c_nodes", "Nodes, by whether they are heard.", ["state"],
                           registry=to)  # fmt: skip
        self.portal_link = Gauge(
            "dit4c_portal_link_up", "1 while the portal lets this scheduler in, else 0.",
            registry=to,
        )  # fmt: skip
        self.outbox = Gauge(
            "dit4c_outbox_messages", "Messages that the portal has not confirmed yet.", registry=to
        )

    def moved(self, instance: str, state: State) -> None:
        """An instance has come into ``state`` just now."""
        self.transitions.labels(state.value).inc()
        if state in _ON_THE_WAY:
            self._began.setdefault(instance, self._clock())
            return
        began = self._began.pop(instance, None)
        # Without it this scheduler was started after the instance was: nobody knows how long.
        if state is State.RUNNING and began is not None:
            self.start_seconds.observe(self._clock() - began)
