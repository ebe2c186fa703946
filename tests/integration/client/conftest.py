import pytest
from systems.portal import PortalAtWork


@pytest.fixture
async def work(tmp_path, engine):
    """A portal with an admin, a router, a scheduler and a node enrolled."""
    async with PortalAtWork(tmp_path) as work:
        yield work
