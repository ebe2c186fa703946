"""Observability of a component: logs, health, metrics.

- ``logs``      log handlers and formats, text or JSON
- ``redact``    removal of secrets from log lines
- ``metrics``   a component's metrics, in a registry of its own
- ``server``    ``/healthz``, ``/readyz`` and ``/metrics``, on a port of their own

A component has a :class:`~dit4c_p2p.observe.metrics.Metrics` of its own and reports its health by
:class:`~dit4c_p2p.observe.server.Observed`; its configuration decides whether they are served.
"""
