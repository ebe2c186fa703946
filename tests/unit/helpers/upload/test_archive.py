"""The layers in an engine's archive, in each form that engines write."""

import gzip
import hashlib
import io
import tarfile

import pytest
import zstandard

from dit4c_p2p.helpers.upload.archive import ArchiveBroken, archive_members


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


LAYER = tar({"file": bytes(range(256)) * 40_000})
CONFIG = b'{"rootfs": {}}'


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def read(archive: bytes) -> list[tuple[str, bool, str]]:
    found = []
    for one in archive_members(io.BytesIO(archive)):
        content = b"".join(one.content)
        found.append((one.digest, one.is_layer, digest(content)))
    return found


def test_as_docker_20_writes_it():
    archive = tar({"ab/VERSION": b"1.0", "ab/json": b"{}", "ab/layer.tar": LAYER, "c.json": CONFIG})
    assert read(archive) == [("", True, digest(LAYER)), ("", False, digest(CONFIG))]


@pytest.mark.parametrize(
    "packed", [lambda it: it, gzip.compress, lambda it: zstandard.ZstdCompressor().compress(it)]
)
def test_as_later_ones_write_it(packed):
    blob = packed(LAYER)
    name = digest(blob).replace("sha256:", "blobs/sha256/")
    known = digest(LAYER) if blob == LAYER else ""
    config = digest(CONFIG).replace("sha256:", "blobs/sha256/")
    archive = tar({config: CONFIG, name: blob})
    assert read(archive) == [(digest(CONFIG), False, digest(CONFIG)), (known, True, digest(LAYER))]


def test_a_layer_that_is_not_read_is_passed_over():
    archive = tar({"a/layer.tar": LAYER, "b/layer.tar": LAYER + bytes(512)})
    assert len(list(archive_members(io.BytesIO(archive)))) == 2


@pytest.mark.parametrize("cut", [0.3, 0.99])
def test_an_archive_that_ends_early_is_said_to(cut):
    blob = gzip.compress(LAYER)
    archive = tar({"blobs/sha256/" + "a" * 64: blob, "b/layer.tar": LAYER})
    with pytest.raises(ArchiveBroken):
        read(archive[: int(len(archive) * cut)])
