"""What nobody needs is removed, and nothing else, also while uploads run."""

import asyncio
import json
import random

from systems.image_server import ImageServerAtWork, image_manifest

from dit4c_p2p.oci.chunks import Chunk, cut
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import MediaType

DAY_S = 24 * 3600.0
ONE = "instances/one"


def content(seed: int, size: int = 1_000_000) -> bytes:
    return random.Random(seed).randbytes(size)


def files(work: ImageServerAtWork) -> int:
    """How many files there are."""
    store = work.server.store.files
    return len(store.all_of("blobs")) + len(store.all_of("packs")) + len(store.all_incoming())


async def push_chunked_image(api, repository: str, tag: str, layer: bytes) -> Digest:
    await api.push_by_chunks(repository, layer)
    return await api.push_image(repository, tag, layer)


async def test_a_deleted_image_leaves_nothing(work, api):
    digest = await push_chunked_image(api, ONE, "v1", content(1))
    assert files(work) > 0
    assert (await api.ask("DELETE", f"/v2/{ONE}/manifests/{digest}")).status == 202
    await work.server.store.garbage.collect()
    assert (await api.ask("HEAD", f"/v2/{ONE}/blobs/{Digest.of(content(1))}")).status == 200
    work.ahead = DAY_S + 1
    await work.server.store.garbage.collect()
    assert files(work) == 0
    kept, sizes = await work.server.store.counts()
    assert set(kept.values()) == set(sizes.values()) == {0.0}


async def test_an_image_stays_with_all_that_it_shares(work, api):
    shared, own = content(1), content(2)
    gone = await push_chunked_image(api, "instances/gone", "v1", shared + own)
    await push_chunked_image(api, ONE, "v1", shared + content(3))
    await api.ask("DELETE", f"/v2/instances/gone/manifests/{gone}")
    work.ahead = DAY_S + 1
    removed = await work.server.store.garbage.collect()
    assert removed["chunks"] > 0
    found = await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(shared + content(3))}")
    assert found.body == shared + content(3)
    again = await work.server.store.garbage.collect()
    assert not any(again.values())
    assert (await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(shared + content(3))}")).body


async def test_a_pack_that_is_mostly_not_needed_is_written_anew(work, api):
    """Its chunks are read before, during and after."""
    big, small = content(1, 8_000_000), content(2, 300_000)
    for one in cut(big + small):
        assert len(one) <= 1024 * 1024
    gone = await push_chunked_image(api, "instances/gone", "v1", big + small)
    tail = cut(big + small)[-2:]
    kept = b"".join(tail)
    await api.missing("instances/gone", [Chunk.of(one) for one in tail])
    chunks = [Chunk.of(one) for one in tail]
    assert (await api.assemble("instances/gone", Digest.of(kept), chunks)).status == 201
    await api.push_image("instances/gone", "kept", kept)
    before = sum(path.stat().st_size for path in work.server.store.files.all_of("packs"))
    await api.ask("DELETE", f"/v2/instances/gone/manifests/{gone}")
    work.ahead = DAY_S + 1

    async def read() -> None:
        for _ in range(20):
            answer = await api.ask("GET", f"/v2/instances/gone/blobs/{Digest.of(kept)}")
            assert answer.body == kept

    reading = asyncio.create_task(read())
    removed = await work.server.store.garbage.collect()
    await reading
    assert removed["packs"] >= 1
    after = sum(path.stat().st_size for path in work.server.store.files.all_of("packs"))
    assert after < before / 4
    assert (await api.ask("GET", f"/v2/instances/gone/blobs/{Digest.of(kept)}")).body == kept


async def test_broken_uploads_are_removed_after_a_day(work, api):
    location = await api.begin(ONE)
    await api.ask("PATCH", location, data=b"half of it")
    await api.bundle(ONE, content(1, 10_000))
    await work.server.store.garbage.collect()
    assert (await api.ask("GET", location)).status == 204
    work.ahead = DAY_S + 1
    removed = await work.server.store.garbage.collect()
    assert (removed["uploads"], removed["chunks"]) == (1, 1)
    assert (await api.ask("GET", location)).status == 404
    assert files(work) == 0


async def test_what_an_upload_was_promised_stays(work, api):
    """A day after the first upload somebody else's begins, and relies on what is there."""
    layer = content(1)
    chunks = [Chunk.of(one) for one in cut(layer)]
    await api.push_by_chunks(ONE, layer)
    whole = await api.push_blob(ONE, b"came whole")
    work.ahead = DAY_S - 60
    assert (await api.missing(ONE, chunks)).json["missing"] == []
    assert (await api.ask("HEAD", f"/v2/{ONE}/blobs/{whole}")).status == 200
    work.ahead = DAY_S + 60
    await work.server.store.garbage.collect()
    assert (await api.ask("HEAD", f"/v2/{ONE}/blobs/{whole}")).status == 200
    assert (await api.assemble(ONE, Digest.of(layer), chunks)).status == 201
    assert (await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(layer)}")).body == layer


async def test_collecting_while_uploads_run_loses_nothing(work, api):
    """Every upload has what it was told to have, with a collection at every moment."""
    stopped = asyncio.Event()

    async def collect() -> int:
        count = 0
        while not stopped.is_set():
            await work.server.store.garbage.collect()
            count += 1
        return count

    async def save(number: int) -> None:
        repository = f"instances/n{number}"
        for version in range(4):
            layer = content(number, 400_000) + content(version, 400_000)
            digest = await push_chunked_image(api, repository, "latest", layer)
            found = await api.ask("GET", f"/v2/{repository}/blobs/{Digest.of(layer)}")
            assert found.body == layer
            if version % 2:
                await api.ask("DELETE", f"/v2/{repository}/manifests/{digest}")

    collecting = asyncio.create_task(collect())
    await asyncio.gather(*(save(number) for number in range(4)))
    stopped.set()
    assert await collecting > 2


async def test_strays_of_a_crash_are_removed_and_the_rest_stays(work, api):
    await push_chunked_image(api, ONE, "v1", content(1))
    store = work.server.store.files
    strays = [store.blob("ab" * 32), store.pack("cd" * 16), store.incoming("ef" * 16)]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"left by a crash")
    location = await api.begin(ONE)
    await work.server.stop()
    await work.start()
    async with work.api() as again:
        assert not strays[2].exists()
        path = location.removeprefix(f"http://{api.address}")
        assert (await again.ask("GET", path)).status == 204
        await work.server.store.garbage.collect()
        assert not any(stray.exists() for stray in strays)
        found = await again.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(content(1))}")
        assert found.body == content(1)


async def test_a_referrer_goes_after_its_subject(work, api):
    digest = await api.push_image(ONE, "v1", b"layer")
    image = await api.ask("GET", f"/v2/{ONE}/manifests/v1")
    subject = {"mediaType": MediaType.MANIFEST, "digest": digest, "size": len(image.body)}
    await api.push_blob(ONE, b"{}")
    document = image_manifest(b"{}", b"{}", subject=subject, artifactType="a/b")
    reference = Digest.of(json.dumps(document).encode())
    assert (await api.push_manifest(ONE, reference, document)).status == 201
    work.ahead = DAY_S + 1
    await work.server.store.garbage.collect()
    assert (await api.ask("GET", f"/v2/{ONE}/manifests/{reference}")).status == 200
    await api.ask("DELETE", f"/v2/{ONE}/manifests/{digest}")
    await work.server.store.garbage.collect()
    assert (await api.ask("GET", f"/v2/{ONE}/manifests/{reference}")).status == 404
