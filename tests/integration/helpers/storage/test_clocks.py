"""A mount whose clock is not the server's, over a long line: times are the server's."""

import os
import time

import pytest
from systems.storage_line import Line
from systems.storage_mount import Mount, needs_fuse

pytestmark = needs_fuse

# JupyterLab asks whether to overwrite where a file is so much newer than what it saved last.
JUPYTERS_SLACK_S = 0.5


@pytest.fixture
def mount(server, tmp_path):
    line = Line(server, delay_s=0.075)
    mount = Mount(line, server.shown, tmp_path / "m", ahead_s=3)
    yield mount
    mount.end()
    line.close()


def in_place(path, data):
    with path.open("wb") as file:
        file.write(data)


def atomic(path, data):
    """As jupyter_server.services.contents.fileio does it."""
    temporary = path.with_name(f".~{path.name}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def with_backup(path, data):
    """The same with the old state beside it until the new one is written."""
    backup = path.with_name(f".~{path.name}")
    if path.exists():
        backup.write_bytes(path.read_bytes())
    in_place(path, data)
    backup.unlink(missing_ok=True)


def test_a_saved_file_is_not_newer_a_moment_later(server, mount):
    folder = mount.path / f"saves {mount.path.parent.name}"
    folder.mkdir()
    for save in (in_place, atomic, with_backup):
        path = folder / f"{save.__name__}.ipynb"
        for number in range(2):
            save(path, b"%d" % number * 2000)
            saved = path.stat().st_mtime
            time.sleep((0.0, 0.3)[number % 2])
            os.listdir(folder)
            later = path.stat().st_mtime
            assert later - saved < JUPYTERS_SLACK_S, (save.__name__, number)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    stored = server.stored / folder.name
    for path in folder.iterdir():
        assert path.stat().st_mtime_ns == (stored / path.name).stat().st_mtime_ns
