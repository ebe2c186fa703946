"""Whole paths through a pod's helpers."""

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """The loop that the helpers run on."""
    return {"uvloop": uvloop.new_event_loop}
