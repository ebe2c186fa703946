"""What can be seen of a component from outside: its log, its health, its figures.

- ``logs``      where log lines go, as text or as JSON
- ``redact``    the last line of defence against secrets in them
- ``metrics``   a component's figures, kept in a registry of its own
- ``server``    ``/healthz``, ``/readyz`` and ``/metrics``, on a port of their own

A component has a :class:`~dit4c_p2p.observe.metrics.Metrics` of its own and says how it is
(:class:`~dit4c_p2p.observe.server.Observed`); whoever runs it decides whether anybody can ask.
"""
