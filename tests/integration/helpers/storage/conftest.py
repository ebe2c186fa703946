import tempfile
from pathlib import Path

import pytest
from systems.storage_mount import Mount, OwnServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = OwnServer(tmp_path_factory.mktemp("fileserver"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def base():
    """A folder that every user may walk through; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory(prefix="posix-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def mounted(base, server):
    """A mount's folder, which every user may walk through."""
    mount = Mount(server, server.shown, base / "mount")
    mount.path.chmod(0o755)
    yield mount.path
    mount.end()
