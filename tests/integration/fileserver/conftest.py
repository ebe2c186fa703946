"""A running file server for each test, or for a module's."""

import pytest_asyncio
from systems.fileserver import running_file_server


@pytest_asyncio.fixture
async def system(tmp_path):
    async with running_file_server(tmp_path) as running:
        yield running
