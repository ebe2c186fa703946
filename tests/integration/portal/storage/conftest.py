import pytest
from systems.portal_storage import StorageAtWork


@pytest.fixture
async def work(tmp_path):
    """A portal with two file servers enrolled."""
    async with StorageAtWork(tmp_path) as work:
        yield work
