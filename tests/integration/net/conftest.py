"""The public edge, on the loop that it runs on in earnest."""

import asyncio

import pytest
import uvloop
from lib.certificates import Authority


def pytest_asyncio_loop_factories(config, item):
    """Both loops, because what TLS does at the end of a connection is the loop's own."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")
