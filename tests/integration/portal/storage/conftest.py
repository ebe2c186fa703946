import asyncssh
import pytest
from fakes.file_server import FakeFileServer
from systems.all_in_one import free_ports
from systems.portal_storage import StorageAtWork

from dit4c_p2p.messages.public import FileServerInfo


@pytest.fixture
async def work(tmp_path):
    """A portal with two file servers enrolled."""
    async with StorageAtWork(tmp_path) as work:
        yield work


@pytest.fixture
async def site(tmp_path):
    """A portal with one file server, and Ada's browser, logged in."""

    class Site:
        pass

    site = Site()
    (port,) = free_ports(1)
    work = site.work = StorageAtWork(tmp_path)
    info = FileServerInfo(
        name="fileserver-first", url="sftp://files.example.org", connect=[f"127.0.0.1:{port}"]
    )
    work.with_config(fileservers=(info, work.config.fileservers[1]))
    async with work:
        await work.person("ada")
        await work.person("eve")
        portal_key = asyncssh.import_public_key(work.portal.info.key)
        site.port = port
        site.make = lambda key=None: FakeFileServer(
            key or work.keys["fileserver-first"], portal_key, tmp_path / "files", port
        )
        async with site.make() as server, work.browser() as browser:
            site.server, site.browser = server, browser
            site.home = server.root("ada") / "private"
            await browser.log_in(await work.login_link("ada"))
            site.csrf = await browser.csrf()
            yield site
