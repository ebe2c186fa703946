import pytest
from support.engines import engine, postgresql  # noqa: F401
from support.portal import PortalAtWork


@pytest.fixture
async def work(tmp_path, engine):  # noqa: F811
    """A portal with an admin, a router, a scheduler and a node enrolled."""
    async with PortalAtWork(tmp_path) as work:
        yield work
