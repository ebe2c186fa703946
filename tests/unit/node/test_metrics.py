"""The engine's calls become few labels, whatever ids are in their paths."""

import pytest

from dit4c_p2p.node.metrics import NodeMetrics


@pytest.mark.parametrize(
    ("method", "path", "label"),
    [
        ("GET", "info", "GET info"),
        ("GET", "containers/json", "GET containers json"),
        ("GET", "containers/0123456789ab/json", "GET containers json"),
        ("POST", "containers/0123456789ab/start", "POST containers start"),
        ("DELETE", "containers/0123456789ab", "DELETE containers"),
        ("GET", "images/registry.example.org/a/b@sha256:1/json", "GET images json"),
        ("POST", "networks/create", "POST networks create"),
        ("DELETE", "volumes/dit4c-abc-pod", "DELETE volumes"),
    ],
)
def test_a_call_is_counted_by_what_it_does(method, path, label):
    metrics = NodeMetrics()
    metrics.called(method, path, 0.2)
    value = metrics.registry.get_sample_value
    assert value("dit4c_engine_call_seconds_count", {"call": label}) == 1
