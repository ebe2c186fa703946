"""An engine is found, or it is said what to do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.docker_daemon import DockerDaemon, ensure_engine, find_engine, on_debian

VERSION = {"Version": "20.10", "ApiVersion": "1.41", "Arch": "amd64", "Os": "linux"}


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that the engine is."""
    path = tmp_path / "engine.sock"
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    return path


@asynccontextmanager
async def answering(path: Path, **changes: str) -> AsyncIterator[None]:
    """Something that answers as an engine does when it is asked for its version."""

    async def version(request: web.Request) -> web.Response:
        return web.json_response({**VERSION, **changes})

    app = web.Application()
    app.router.add_get("/version", version)
    app.router.add_get("/v1.41/version", version)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("arch", "named"), [("amd64", "x86_64"), ("arm64", "aarch64")])
async def test_one_that_answers_is_taken(socket: Path, arch: str, named: str) -> None:
    told: list[tuple[str, str]] = []
    async with answering(socket, Arch=arch):
        engine = await ensure_engine(lambda *it: told.append(it))
    assert engine == DockerDaemon(version="20.10", architecture=named)
    assert told == [("Docker engine", "20.10, ready")]


@pytest.mark.parametrize("changes", [{"Arch": "s390x"}, {"Os": "windows"}])
async def test_one_that_has_no_images_is_refused(socket: Path, changes: dict[str, str]) -> None:
    async with answering(socket, **changes):
        with pytest.raises(ConfigError, match=next(iter(changes.values()))):
            await find_engine()


@pytest.mark.parametrize(
    "address", ["unix:///no/such.sock", "what://is-this", "npipe:////./pipe/docker_engine"]
)
async def test_one_at_an_address_of_its_own_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(ConfigError, match="does not answer") as failed:
        await ensure_engine(lambda *it: None)
    assert address in str(failed.value)
    assert "DOCKER_HOST" in failed.value.hint


async def test_one_that_only_others_may_speak_to(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may open any socket: the refusal comes from the connection's own call.
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.sock_connect", refuse)
    monkeypatch.setattr("asyncio.unix_events._UnixSelectorEventLoop.create_unix_connection", refuse)
    with pytest.raises(ConfigError, match="may not speak") as failed:
        await find_engine()
    assert "docker $USER" in failed.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\n", True),
        ('ID=ubuntu\nID_LIKE="debian"\n', True),
        ("ID=fedora\n", False),
        ("# ID_LIKE=debian\nnonsense\n", False),
    ],
)
def test_debian_is_known_by_its_release(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    expected: bool,
) -> None:
    found: Callable[[str], str] = "/usr/bin/{}".format
    monkeypatch.setattr("shutil.which", found)
    release = tmp_path / "os-release"
    release.write_text(text)
    assert on_debian(release) is expected
    assert not on_debian(tmp_path / "none")


async def test_an_empty_address_is_none(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.setattr("dit4c_p2p.imagebuild.docker_daemon.USUAL", f"unix://{socket}")
    async with answering(socket):
        assert (await find_engine()) is not None


@pytest.mark.parametrize(
    ("named", "environment", "where"),
    [
        ("tcp://192.0.2.1:1", "unix:///e.sock", "tcp://192.0.2.1:1"),
        (None, "unix:///e.sock", "unix:///e.sock"),
        (None, "", USUAL),
        (None, None, USUAL),
    ],
)
def test_others_are_told_of_the_same_one(
    monkeypatch: pytest.MonkeyPatch, named: str | None, environment: str | None, where: str
) -> None:
    if environment is None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
    else:
        monkeypatch.setenv("DOCKER_HOST", environment)
    assert DockerDaemon("1", "x86_64", named).address == where
