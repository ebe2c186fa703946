"""A file of images is looked at before an engine has it: what is of no use is said in words."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dit4c_p2p.oci.archive import CutOff, NotAnArchive, read_archive

LAYER = random.Random(1).randbytes(5000)
CONFIG = b'{"architecture": "amd64"}'


def tar(files: dict[str, bytes]) -> bytes:
    """As docker save writes it: with a mark at the end, and nothing behind that."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        end = archive.offset
    return buffer.getvalue()[: end + 1024]


def dockers(**more: bytes) -> dict[str, bytes]:
    """What docker save puts into an archive."""
    images = [{"Config": "c.json", "RepoTags": ["lab:1"], "Layers": ["l/layer.tar"]}]
    files = {"l/layer.tar": LAYER, "c.json": CONFIG, "manifest.json": json.dumps(images).encode()}
    return {**files, **more}


def ocis(architectures=("amd64",), name="registry.example.org/lab:1") -> dict[str, bytes]:
    """An image layout; with several architectures an index of them."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def put(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    manifests = []
    for architecture in architectures:
        config = put(json.dumps({"architecture": architecture}).encode())
        manifest = put(json.dumps({"config": config, "layers": [put(LAYER)]}).encode())
        platform = {"os": "linux", "architecture": architecture}
        manifests.append({**manifest, "platform": platform})
    if len(manifests) > 1:
        manifests = [put(json.dumps({"manifests": manifests}).encode())]
    manifests[0]["annotations"] = {"org.opencontainers.image.ref.name": name}
    files["index.json"] = json.dumps({"manifests": manifests}).encode()
    return files


@pytest.fixture
def write(tmp_path):
    def write(content: bytes) -> Path:
        path = tmp_path / "images.tar"
        path.write_bytes(content)
        return path

    return write


def sent(path: Path) -> dict[str, bytes]:
    """What an engine would find in what it is sent."""
    stream = io.BytesIO(b"".join(read_archive(path, "amd64").chunks()))
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_dockers_own_is_sent_as_it_is_and_unpacked(write, squeeze):
    assert sent(write(squeeze(tar(dockers())))) == dockers()


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
@pytest.mark.parametrize("architectures", [("amd64",), ("arm64", "unknown", "amd64")])
def test_the_ocis_is_given_a_list_that_docker_reads(write, architectures, squeeze):
    files = ocis(architectures)
    found = sent(write(squeeze(tar(files))))
    (image,) = json.loads(found.pop("manifest.json"))
    assert found == files
    assert json.loads(found[image["Config"]]) == {"architecture": "amd64"}
    assert [found[layer] for layer in image["Layers"]] == [LAYER]
    assert image["RepoTags"] == ["registry.example.org/lab:1"]


def test_a_tag_alone_is_no_name(write):
    (image,) = json.loads(sent(write(tar(ocis(name="latest"))))["manifest.json"])
    assert image["RepoTags"] is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no archive of images"),
        (b"hello", "is no archive of images"),
        (LAYER, "is no archive of images"),
        (gzip.compress(b"hello", mtime=0), "is no archive of images"),
        (tar({"etc/passwd": b"x"}), "is an archive, but not of images"),
        (tar(dockers(**{"manifest.json": b"{"})), "has no list of images in manifest.json"),
        (tar({**ocis(), "index.json": b"[]"}), "has no list of images in index.json"),
        (tar(ocis(("arm64", "s390x"))), "has no image for amd64 machines"),
    ],
)
def test_what_is_something_else(write, content, says):
    path = write(content)
    with pytest.raises(NotAnArchive, match=says) as caught:
        read_archive(path, "amd64")
    assert str(path) in str(caught.value)
    assert "docker save" in caught.value.hint


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["nowhere", "manifest.json", "real.json"])
def test_a_list_that_is_a_link_is_none(write, kind, target):
    """It could lead to anything, of any size."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in dockers().items():
            entry = tarfile.TarInfo(name.replace("manifest", "real"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = kind, target
        archive.addfile(link)
    with pytest.raises(NotAnArchive, match=r"has no list of images in manifest.json"):
        read_archive(write(buffer.getvalue()), "amd64")


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_a_list_that_is_nested_without_end_is_none(write, name):
    with pytest.raises(NotAnArchive, match=f"has no list of images in {name}"):
        read_archive(write(tar({name: b"[" * 100_000})), "amd64")


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress, bz2.compress, lzma.compress])
@given(part=st.floats(0.0, 0.999))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_cut_off_anywhere_is_never_sent(write, squeeze, part):
    for files in (dockers(), ocis()):
        whole = squeeze(tar(files))
        path = write(whole[: int(len(whole) * part)])
        try:
            # Of the mark at the end, half is enough.
            assert sent(path).items() >= files.items()
        except (CutOff, NotAnArchive):
            continue


def test_what_its_list_names_has_to_be_there(write):
    files = dockers()
    del files["c.json"]
    with pytest.raises(CutOff, match="cut off, or damaged"):
        read_archive(write(tar(files)), "amd64")


def test_cut_at_the_end_of_a_file_within(write):
    whole = tar(dockers())
    with pytest.raises(CutOff):
        read_archive(write(whole[:-1024]), "amd64")


def test_what_shrinks_while_it_is_sent(write):
    path = write(tar(dockers(more=bytes(3 << 20))))
    chunks = read_archive(path, "amd64").chunks()
    next(chunks)
    path.write_bytes(path.read_bytes()[: 1 << 20])
    with pytest.raises(CutOff):
        list(chunks)
