"""``dit4c images load`` with real archives and a real engine of our own, whose disk is small."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile
import tomllib

import pytest
from systems.pods import docker, make_image
from systems.second_engine import SecondEngine

from dit4c_p2p.cli import main
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild import load

pytestmark = [pytest.mark.engine, pytest.mark.root]

MIB = 1024**2
TITLE = "LABEL org.opencontainers.image.title=Hello"


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    with SecondEngine(tmp_path_factory.mktemp("engine"), size="120m") as engine:
        yield engine


@pytest.fixture
def loaded(second, monkeypatch):
    """Runs the command at the second engine; its exit status."""

    def run(path):
        with monkeypatch.context() as at:
            at.setenv("DOCKER_HOST", second.url)
            return main(["images", "load", str(path)])

    yield run
    for id in second.docker("images", "-q", "--no-trunc").split():
        second.docker("rmi", "-f", id, check=False)


@pytest.fixture
def saved(tmp_path):
    """Makes an image with so many bytes that can't be compressed, and an archive of it.

    Its id, and the archive's path.
    """
    made = []

    def save(size: int, tag: str, *changes: str):
        id = make_image({"weight": os.urandom(size)}, 'CMD ["httpd"]', *changes)
        made.append(id)
        docker("tag", id, tag)
        path = tmp_path / "images.tar"
        docker("save", "--output", str(path), tag)
        docker("rmi", tag)
        return id, path

    yield save
    for id in made:
        docker("rmi", "-f", id, check=False)


def as_oci(path, tag):
    """The only image of Docker's archive as an image layout, its layers compressed."""
    with tarfile.open(path) as archive:
        (image,) = json.load(archive.extractfile("manifest.json"))
        config = archive.extractfile(image["Config"]).read()
        layers = [gzip.compress(archive.extractfile(name).read()) for name in image["Layers"]]
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def put(content):
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    manifest = {"schemaVersion": 2, "config": put(config), "layers": [put(one) for one in layers]}
    named = put(json.dumps(manifest).encode())
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("form", ["docker's", "compressed", "the OCI's"])
def test_loaded_under_the_same_id_and_printed_as_a_tool(second, loaded, saved, capsys, form):
    id, path = saved(5 * MIB, "lab/hello:1", "EXPOSE 8080/tcp", TITLE)
    if form == "compressed":
        path.write_bytes(gzip.compress(path.read_bytes()))
    elif form == "the OCI's":
        as_oci(path, "lab/hello:1")
    assert loaded(path) == 0
    printed = capsys.readouterr()
    (tool,) = tomllib.loads(printed.out)["tools"]
    assert tool == {
        "name": "hello",
        "title": "Hello",
        "description": "",
        "icon": "H",
        "image": id,
    }
    assert second.docker("inspect", "-f", "{{.Id}}", "lab/hello:1") == id
    assert loaded(path) == 0, "again is fine"


def test_how_far_it_is(second, saved, monkeypatch):
    _, path = saved(8 * MIB, "lab/slow:1")
    said = []
    monkeypatch.setenv("DOCKER_HOST", second.url)
    (image,) = asyncio.run(load.load_images(path, lambda step, detail: said.append(detail)))
    assert said[0] == "reading images.tar"
    sending = [detail for detail in said if detail.startswith("sending images.tar: ")]
    assert len(set(sending)) >= 8
    assert "sending images.tar: 4 of " in "\n".join(sending)
    assert [detail for detail in said if detail.startswith("unpacking layer ")]
    assert said[-1] == "1 loaded from images.tar"
    assert (image.tag, image.serves) == ("lab/slow:1", False)


def test_what_serves_nothing_is_said(loaded, saved, capsys):
    _, path = saved(10, "lab/deaf:1")
    assert loaded(path) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "lab/deaf:1 declares no TCP port: no tool." in printed.err


@pytest.mark.parametrize("size_mib", [100, 200])
def test_a_full_disk_is_called_so_and_nothing_stays_of_it(second, loaded, saved, capsys, size_mib):
    """While it is sent, and while it is unpacked."""
    _, path = saved(size_mib * MIB, "lab/large:1", "EXPOSE 8080/tcp")
    assert loaded(path) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "dit4c: the disk is full: the engine could not store the images" in printed.err
    assert second.docker("images", "-q") == ""
    _, small = saved(MIB, "lab/small:1", "EXPOSE 8080/tcp")
    assert loaded(small) == 0, "goes on when there is room"


def test_what_an_engine_would_not_understand_is_not_sent(second, loaded, saved, capsys):
    _, path = saved(MIB, "lab/hello:1")
    path.write_bytes(path.read_bytes()[:MIB])
    assert loaded(path) == 1
    assert "images.tar is cut off, or damaged. Copy it here once more." in capsys.readouterr().err
    path.write_text("hello")
    assert loaded(path) == 1
    assert "is no archive of images" in capsys.readouterr().err
    assert second.docker("images", "-q") == ""


def test_an_engine_that_is_away(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert main(["images", "load", str(tmp_path)]) == 1
    assert "does not answer. Start it" in capsys.readouterr().err

    async def none():
        return None

    monkeypatch.setattr(load, "find_engine", none)
    with pytest.raises(ConfigError, match="no Docker engine answers") as caught:
        asyncio.run(load.load_images(tmp_path, lambda step, detail: None))
    assert "systemctl start docker" in caught.value.hint
