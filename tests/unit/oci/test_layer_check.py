"""Layers that no engine should be given."""

import io
import tarfile

import pytest

from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.layer_check import LayerCheck


def tar(*entries: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def check(content: bytes, step: int = 700) -> LayerCheck:
    checker = LayerCheck()
    try:
        for start in range(0, len(content), step):
            checker.feed(content[start : start + step])
        checker.finish()
    finally:
        checker.close()
    return checker


def test_an_ordinary_layer_passes():
    content = tar(
        entry("etc", tarfile.DIRTYPE),
        entry("etc/passwd", size=5000),
        entry("etc/.wh.gone"),
        entry("bin", tarfile.SYMTYPE, linkname="../usr/bin"),
        entry("lib/b", tarfile.LNKTYPE, linkname="etc/passwd"),
        entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("n" * 300, size=1),
    )
    assert check(content).entries == 7
    assert check(content, 1 << 20).entries == 7
    assert check(tar()).entries == 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("/etc/passwd"), "outside"),
        (entry("a/../../etc/passwd"), "outside"),
        (entry("x" * 150 + "/../../../b"), "outside"),
        (entry("a", tarfile.LNKTYPE, linkname="../../etc/shadow"), "leaves"),
        (entry("a", tarfile.LNKTYPE, linkname="/etc/shadow"), "leaves"),
        (entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0), "device"),
        (entry("mem", tarfile.CHRTYPE, devmajor=10, devminor=1), "device"),
    ],
)
def test_a_forged_layer_is_refused(bad, why):
    with pytest.raises(InvalidImage, match=why):
        check(tar(entry("before", size=100_000), bad, entry("after", size=100_000)))


def test_a_layer_that_is_cut_or_no_tar_is_refused():
    with pytest.raises(InvalidImage, match="not a tar"):
        check(tar(entry("a", size=100_000))[:50_000])
    with pytest.raises(InvalidImage, match="not a tar"):
        check(b"x" * 5000)


def test_more_than_an_image_may_have(monkeypatch):
    monkeypatch.setattr("dit4c_p2p.oci.layer_check.MAX_ENTRIES", 2)
    with pytest.raises(InvalidImage, match="more than 2"):
        check(tar(entry("a"), entry("b"), entry("c")))
    monkeypatch.setattr("dit4c_p2p.oci.layer_check.MAX_IMAGE_BYTES", 1000)
    with pytest.raises(InvalidImage, match="larger"):
        check(tar(entry("a", size=2000)))
