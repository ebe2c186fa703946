"""Metrics of a component, in a registry of its own, because several may share one process.

Each component has a subclass with its metrics as attributes. :func:`metrics_exposition` returns
the text of one or several, with the label ``component`` on every sample.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dit4c_p2p import __version__
from dit4c_p2p.observe.logs import log_lines_lost

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# From an answer out of memory to one that somebody gives up on.
REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A start is a second where the image is present, and up to an hour where it has to be fetched.
START_BUCKETS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0, 900.0, 3600.0)


class Metrics:
    """Metrics of every component.

    :param component: its kind, the value of the label.
    """

    def __init__(self, component: str) -> None:
        self.component = component
        self.registry = CollectorRegistry()
        Info("dit4c_build", "What runs here.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        Gauge(
            "dit4c_log_lost_lines",
            "Lines of this process's log that could not be written.",
            registry=self.registry,
        ).set_function(log_lines_lost)


class PeerMetrics(Metrics):
    """Metrics of every component except the portal."""

    def __init__(self, component: str) -> None:
        super().__init__(component)
        self.key_events_heard = Gauge(
            "dit4c_key_events_heard",
            "1 while changes of keys are heard of as they happen, else 0.",
            registry=self.registry,
        )


def set_all_gauge_values(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Set a gauge with one label to exactly these values, and remove all other labels."""
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)


def metrics_exposition(components: Sequence[Metrics]) -> bytes:
    """Return the metrics of these components in Prometheus' text format 0.0.4."""
    return generate_latest(_JoinedRegistries(components))


class _JoinedRegistries(Collector):
    """Several registries as one, in which each metric is declared once."""

    def __init__(self, components: Sequence[Metrics]) -> None:
        self._components = components

    def collect(self) -> Iterator[Metric]:
        """Called by the exposition."""
        merged: dict[str, Metric] = {}
        for component in self._components:
            for metric in component.registry.collect():
                all_of_it = merged.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                all_of_it.samples += [
                    sample._replace(labels={"component": component.component, **sample.labels})
                    for sample in metric.samples
                    # When a counter was made: of no use in this format, and a line for each.
                    if not sample.name.endswith("_created")
                ]
        yield from merged.values()
        yield from ProcessCollector(registry=None).collect()
