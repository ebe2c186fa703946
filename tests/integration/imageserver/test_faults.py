"""What goes wrong around an image server: it is killed, its disk is full, its portal is silent."""

import asyncio
import hashlib
import os
import random
import signal

import aiohttp
import pytest
from systems.image_server import ImageServerAtWork
from systems.image_server_process import ImageServerProcess
from systems.small_disk import SmallDisk

from dit4c_p2p.oci.chunks import Chunk
from dit4c_p2p.oci.digests import Digest

ONE = "instances/one"
MIB = 1024 * 1024
KILLS = 4


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def push_resumed(server: ImageServerProcess, repository: str, layer: bytes) -> None:
    """As a client does whose server goes away: ask how far it is, and go on."""
    location, offset = "", 0
    while True:
        try:
            async with server.api() as api:
                if not location:
                    location, offset = await api.begin(repository), 0
                while offset < len(layer):
                    part = layer[offset : offset + MIB // 4]
                    stop = offset + len(part) - 1
                    answer = await api.ask(
                        "PATCH", location, data=part, headers={"Content-Range": f"{offset}-{stop}"}
                    )
                    assert answer.status == 202, answer.body
                    offset += len(part)
                answer = await api.finish(location, Digest.of(layer))
                if answer.status == 201:
                    return
                location = ""
        except (aiohttp.ClientError, OSError):
            await server.up()
            async with server.api() as api:
                answer = await api.ask("GET", location)
                if answer.status == 204:
                    said = answer.headers["Range"].rpartition("-")[2]
                    offset = int(said) + 1 if said != "0" else 0
                else:
                    location = ""


async def push_chunks_resumed(server: ImageServerProcess, repository: str, layer: bytes) -> None:
    """The same by the exchange."""
    while True:
        try:
            async with server.api() as api:
                await api.push_by_chunks(repository, layer)
                return
        except (aiohttp.ClientError, OSError):
            await server.up()


async def test_killed_at_any_moment_it_has_what_it_has_confirmed(tmp_path):
    """kill -9 during uploads of both kinds: they are resumed and end with equal bytes."""
    async with ImageServerProcess(tmp_path) as server:
        await server.up()
        layers = {f"instances/n{number}": content(number, 3 * MIB) for number in range(4)}
        uploads = [
            asyncio.create_task((push_resumed, push_chunks_resumed)[number % 2](server, *item))
            for number, item in enumerate(layers.items())
        ]
        kept: list[tuple[str, Digest]] = []
        for kill in range(KILLS):
            async with server.api() as api:
                small = content(100 + kill, 70_000)
                repository = f"instances/kept{kill}"
                await api.push_image(repository, "v1", small)
                kept.append((repository, Digest.of(small)))
            server.kill()
            server.start()
            await server.up()
        async with asyncio.timeout(60):
            await asyncio.gather(*uploads)
        async with server.api() as api:
            for repository, layer in layers.items():
                answer = await api.ask("GET", f"/v2/{repository}/blobs/{Digest.of(layer)}")
                assert answer.body == layer
            for repository, digest in kept:
                assert (await api.ask("GET", f"/v2/{repository}/manifests/v1")).status == 200
                answer = await api.ask("GET", f"/v2/{repository}/blobs/{digest}")
                assert Digest.of(answer.body) == digest


async def test_memory_does_not_grow_with_the_blob(tmp_path):
    """150 MiB at the most, whatever the blob's size; whole and in chunks, up and down."""
    size = 200 * MIB
    half = os.urandom(MIB)

    async def parts():
        for number in range(size // MIB):
            yield number.to_bytes(8, "big") + half[8:]

    async with ImageServerProcess(tmp_path) as server:
        await server.up()
        async with server.api() as api:
            location = (await api.ask("PATCH", await api.begin(ONE), data=parts())).location
            sha256 = hashlib.sha256()
            async for part in parts():
                sha256.update(part)
            digest = f"sha256:{sha256.hexdigest()}"
            assert (await api.finish(location, digest)).status == 201
            chunks, batch = [], []
            async for part in parts():
                batch.append(part)
                chunks.append(Chunk.of(part))
                if len(batch) == 8:
                    assert (await api.bundle("instances/two", *batch)).status == 200
                    batch = []
            await api.bundle("instances/two", *batch)
            assert (await api.assemble("instances/two", digest, chunks)).status == 201
            for repository in (ONE, "instances/two"):
                url = f"http://{api.address}/v2/{repository}/blobs/{digest}"
                async with api.session.get(url, headers=api.headers) as response:
                    sha256, count = hashlib.sha256(), 0
                    async for data in response.content.iter_chunked(MIB):
                        sha256.update(data)
                        count += len(data)
                assert (count, f"sha256:{sha256.hexdigest()}") == (size, digest)
        assert server.most_rss_mib() <= 150


async def test_memory_does_not_grow_with_the_list_of_a_blob(tmp_path):
    """The longest list that there may be, of the smallest chunks, four times at once."""
    body = b"".join(n.to_bytes(32, "big") + (65536).to_bytes(4, "big") for n in range(327_680))
    async with ImageServerProcess(tmp_path) as server:
        await server.up()

        async def put_together() -> int:
            async with server.api() as api:
                path = f"/v2/{ONE}/_dit4c/blobs/{Digest.of(b'')}"
                return (await api.ask("POST", path, data=body)).status

        assert await asyncio.gather(*(put_together() for _ in range(4))) == [409] * 4
        assert server.most_rss_mib() <= 150


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
async def test_a_full_disk_is_said_and_nothing_is_corrupt(tmp_path):
    with SmallDisk(tmp_path / "disk", size="24m") as disk:
        async with ImageServerProcess(tmp_path, disk.folder / "data", keep_free="0 B") as server:
            await server.up()
            async with server.api() as api:
                await api.push_image(ONE, "v1", b"was there before")
                before = content(1, 4 * MIB)
                await api.push_by_chunks(ONE, before)
                disk.fill(files=False)
                location = ""
                answer = await api.ask("POST", f"/v2/{ONE}/blobs/uploads/")
                if answer.status == 202:
                    location = answer.location
                    answer = await api.ask("PATCH", location, data=content(2, MIB))
                assert answer.status == 507, answer.body
                assert "full" in answer.json["errors"][0]["message"]
                answer = await api.bundle(ONE, content(3, MIB))
                assert answer.status == 507, answer.body
                found = await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(before)}")
                assert found.body == before
                disk.make_room()
                await api.push_image(ONE, "v2", content(2, MIB))
                assert await api.push_by_chunks(ONE, content(3, MIB)) > 0
                for tag in ("v1", "v2"):
                    assert (await api.ask("GET", f"/v2/{ONE}/manifests/{tag}")).status == 200


async def test_uploads_are_refused_before_the_disk_is_full(tmp_path):
    async with ImageServerAtWork(tmp_path, keep_free=2**60) as work, work.api() as api:
        answer = await api.ask("POST", f"/v2/{ONE}/blobs/uploads/")
        assert (answer.status, answer.headers["Retry-After"]) == (507, "5")
        assert await work.server.checks["disk"]() != ""


async def test_a_portal_that_does_not_answer_is_503_and_nothing_is_let_through(work, api):
    await api.push_image(ONE, "v1", b"layer")
    work.portal.silent = True
    work.server._access._permitted.clear()
    work.server._access._client.session._timeout = aiohttp.ClientTimeout(total=0.2)
    answer = await api.ask("GET", f"/v2/{ONE}/manifests/v1")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert "portal" in await work.server.checks["portal"]()
    work.portal.silent = False
    assert (await api.ask("GET", f"/v2/{ONE}/manifests/v1")).status == 200


async def test_a_permission_counts_for_seconds_and_a_refusal_never(work, api):
    await api.push_image(ONE, "v1", b"layer")
    work.portal.users["reader"] = [(ONE, "pull")]
    async with work.api("reader") as reader:
        work.portal.asked.clear()
        for _ in range(3):
            assert (await reader.ask("GET", f"/v2/{ONE}/manifests/v1")).status == 200
            assert (await reader.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status == 403
        verbs = [verb for _, verb, _ in work.portal.asked]
        assert (verbs.count("pull"), verbs.count("push")) == (1, 3)
        work.portal.users["reader"] = [(ONE, "push")]
        work.ahead = 6
        assert (await reader.ask("GET", f"/v2/{ONE}/manifests/v1")).status == 404
        assert (await reader.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status == 202
        del work.portal.users["reader"]
        work.ahead = 12
        answer = await reader.ask("GET", f"/v2/{ONE}/manifests/v1")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    async with work.api("") as nobody:
        work.portal.asked.clear()
        assert (await nobody.ask("GET", "/v2/")).status == 401
        assert work.portal.asked == []


async def test_the_image_server_proves_itself_to_the_portal(work, api):
    from dit4c_p2p.identity.tokens import verify

    await api.ask("GET", "/v2/")
    token = verify(
        work.portal.server_tokens[-1], [work.key], work.portal.info.url,
        now=work.server._clock(),
    )  # fmt: skip
    assert str(token.issuer) == "imageserver-main"


async def test_an_upload_that_goes_silent_is_cut_and_can_be_resumed(tmp_path):
    async with ImageServerAtWork(tmp_path, keep_free=0, silence=0.3) as work, work.api() as api:
        location = await api.begin(ONE)

        async def parts():
            yield b"x" * 1000
            await asyncio.sleep(30)

        answer = await api.ask("PATCH", location, data=parts())
        assert answer.status == 400
        assert (await api.ask("GET", location)).headers["Range"] == "0-999"


async def test_two_requests_do_not_write_to_one_upload(work, api):
    location = await api.begin(ONE)
    begun = asyncio.Event()

    async def slow():
        yield b"x" * 2_000_000
        await asyncio.sleep(0.05)
        begun.set()
        await asyncio.sleep(0.5)
        yield b"y"

    first = asyncio.create_task(api.ask("PATCH", location, data=slow()))
    await begun.wait()
    async with work.api() as other:
        assert (await other.ask("PATCH", location, data=b"z")).status == 409
        assert (await other.ask("DELETE", location)).status == 409
    assert (await first).status == 202


async def test_stopping_ends_what_runs(tmp_path):
    async with ImageServerProcess(tmp_path) as server:
        await server.up()
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 10) == 0


async def test_a_client_that_takes_nothing_is_cut_and_others_are_served(tmp_path):
    """Twenty of them: more than there are threads to send with."""
    layer = content(1, 8 * MIB)
    async with ImageServerAtWork(tmp_path, keep_free=0, stalled=1.0) as work, work.api() as api:
        await api.push_blob(ONE, layer)
        request = (
            f"GET /v2/{ONE}/blobs/{Digest.of(layer)} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {api.headers['Authorization']}\r\n\r\n"
        )
        host, _, port = work.address.partition(":")
        lazy = [await asyncio.open_connection(host, int(port), limit=1024) for _ in range(20)]
        for _, writer in lazy:
            writer.write(request.encode())
        async with asyncio.timeout(20):
            for _ in range(3):
                answer = await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(layer)}")
                assert answer.body == layer
            while work.server._server.connections > 1:
                await api.ask("GET", "/v2/")
        for _, writer in lazy:
            writer.close()


async def test_a_client_that_goes_away_leaves_nothing_open(tmp_path):
    layer = content(1, 8 * MIB)
    async with ImageServerAtWork(tmp_path, keep_free=0) as work, work.api() as api:
        await api.push_blob(ONE, layer)
        await api.push_by_chunks("instances/two", layer + b"x")
        open_before = len(os.listdir("/proc/self/fd"))
        for repository, digest in ((ONE, Digest.of(layer)),
                                   ("instances/two", Digest.of(layer + b"x"))):  # fmt: skip
            for _ in range(5):
                async with work.api() as gone:
                    url = f"http://{work.address}/v2/{repository}/blobs/{digest}"
                    response = await gone.session.get(url, headers=gone.headers)
                    await response.content.read(1000)
                    response.close()
        # A read that was under way closes its file when it ends.
        async with asyncio.timeout(10):
            while (
                work.server._server.connections > 1
                or len(os.listdir("/proc/self/fd")) > open_before + 2
            ):
                await api.ask("GET", "/v2/")
