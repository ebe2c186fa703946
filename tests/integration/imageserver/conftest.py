"""An image server for each test, and clients of it."""

import pytest
from systems.image_server import ImageServerAtWork


@pytest.fixture
async def work(tmp_path):
    """An image server on a folder of its own; the disk's room is not looked at."""
    async with ImageServerAtWork(tmp_path / "server", keep_free=0) as work:
        yield work


@pytest.fixture
async def api(work):
    """A client that may do everything."""
    async with work.api() as api:
        yield api
