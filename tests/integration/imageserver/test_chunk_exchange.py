"""The chunk exchange: only what is missing travels, chunks are kept once, nothing is revealed."""

import random

import aiohttp
import pytest

from dit4c_p2p.oci.chunks import ENTRY_BYTES, Chunk, cut, decode_chunks, encode_chunks
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import BundleReader, Coding, Head, Packed, pack_chunk, unpack_chunk

ONE, TWO = "instances/one", "instances/two"
CONTENT = random.Random(1).randbytes(3_000_000) + b"text " * 400_000
PIECES = cut(CONTENT)
CHUNKS = [Chunk.of(piece) for piece in PIECES]
DIGEST = Digest.of(CONTENT)


async def test_a_blob_that_was_put_together_is_an_ordinary_blob(api):
    assert await api.push_by_chunks(ONE, CONTENT) == len(set(CHUNKS))
    path = f"/v2/{ONE}/blobs/{DIGEST}"
    answer = await api.ask("GET", path)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    for start, stop in ((0, 1), (1_000_000, 3_500_000), (len(CONTENT) - 5, len(CONTENT))):
        part = await api.ask("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
        assert (part.status, part.body) == (206, CONTENT[start:stop])


async def test_only_what_changed_is_sent(api):
    await api.push_by_chunks(ONE, CONTENT)
    assert await api.push_by_chunks(ONE, CONTENT) == 0
    changed = CONTENT[:1_500_000] + b"x" + CONTENT[1_500_000:]
    assert 1 <= await api.push_by_chunks(ONE, changed) <= 2
    assert (await api.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(changed)}")).body == changed


async def test_a_node_learns_what_a_blob_is_made_of_and_fetches_chunks(api):
    await api.push_by_chunks(ONE, CONTENT)
    answer = await api.ask("GET", f"/v2/{ONE}/_dit4c/blobs/{DIGEST}")
    assert decode_chunks(answer.body) == CHUNKS
    wanted = [CHUNKS[3], CHUNKS[0], CHUNKS[3]]
    fetched = list(BundleReader().feed((await api.fetch(ONE, wanted)).body))
    assert [one.head.chunk for one in fetched] == wanted
    assert [unpack_chunk(one) for one in fetched] == [PIECES[3], PIECES[0], PIECES[3]]
    whole = await api.push_blob(ONE, b"came whole")
    assert (await api.ask("GET", f"/v2/{ONE}/_dit4c/blobs/{whole}")).status == 404


async def test_each_chunk_is_kept_once(work, api):
    for repository in (ONE, TWO):
        # The second repository does not see the first's, so that everything is sent again.
        assert await api.push_by_chunks(repository, CONTENT) == len(set(CHUNKS))
    packs = work.server.store.files.all_of("packs")
    stored = sum(
        pack_chunk(chunk, piece).head.stored
        for chunk, piece in set(zip(CHUNKS, PIECES, strict=True))
    )
    assert sum(path.stat().st_size for path in packs) == stored


async def test_what_a_caller_may_not_read_looks_as_if_it_were_not_there(work, api):
    await api.push_by_chunks(ONE, CONTENT)
    work.portal.users["two"] = [(TWO, "pull push")]
    async with work.api("two") as stranger:
        everything = list(range(len(CHUNKS)))
        for sources in ((), (ONE,), ("instances/nothing",)):
            answer = await stranger.missing(TWO, CHUNKS, *sources)
            assert answer.json["missing"] == everything
            answer = await stranger.assemble(TWO, DIGEST, CHUNKS, *sources)
            assert (answer.status, answer.json["missing"]) == (409, everything)
        assert (await stranger.fetch(TWO, CHUNKS[:1])).status == 404
        assert (await stranger.fetch(ONE, CHUNKS[:1])).status == 404
        assert (await stranger.missing(ONE, CHUNKS)).status == 403
        for method, path in (
            ("GET", f"/v2/{ONE}/_dit4c/blobs/{DIGEST}"),
            ("HEAD", f"/v2/{ONE}/blobs/{DIGEST}"),
            ("HEAD", f"/v2/{TWO}/blobs/{DIGEST}"),
            ("GET", f"/v2/{ONE}/tags/list"),
        ):
            assert (await stranger.ask(method, path)).status == 404
        mount = f"/v2/{TWO}/blobs/uploads/?mount={DIGEST}&from={ONE}"
        there = await stranger.ask("POST", mount)
        not_there = await stranger.ask("POST", mount.replace(DIGEST, Digest.of(b"nothing")))
        assert there.status == not_there.status == 202
        # What it sends itself it has.
        assert (await stranger.bundle(TWO, PIECES[0])).json == {"stored": 1}
        assert (await stranger.missing(TWO, CHUNKS[:2])).json == {"missing": [1]}


async def test_a_source_that_the_caller_may_read_saves_the_sending(work, api):
    await api.push_by_chunks(ONE, CONTENT)
    work.portal.users["two"] = [(TWO, "pull push"), (ONE, "pull")]
    async with work.api("two") as derived:
        assert await derived.push_by_chunks(TWO, CONTENT + b"more", ONE) == 1
        mount = f"/v2/{TWO}/blobs/uploads/?mount={DIGEST}&from={ONE}"
        assert (await derived.ask("POST", mount)).status == 201
        assert (await derived.ask("GET", f"/v2/{TWO}/blobs/{DIGEST}")).body == CONTENT


async def test_a_blob_needs_all_its_chunks_and_its_digest(api):
    assert (await api.bundle(ONE, *PIECES[:-1])).status == 200
    answer = await api.assemble(ONE, DIGEST, CHUNKS)
    assert (answer.status, answer.json) == (409, {"missing": [len(CHUNKS) - 1]})
    await api.bundle(ONE, PIECES[-1])
    answer = await api.assemble(ONE, Digest.of(b"another"), CHUNKS)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    swapped = [CHUNKS[1], CHUNKS[0], *CHUNKS[2:]]
    assert (await api.assemble(ONE, DIGEST, swapped)).status == 400
    assert (await api.ask("HEAD", f"/v2/{ONE}/blobs/{DIGEST}")).status == 404
    assert (await api.assemble(ONE, DIGEST, CHUNKS)).status == 201
    assert (await api.assemble(ONE, DIGEST, CHUNKS)).status == 201


async def test_a_chunk_whose_bytes_do_not_match_is_refused_and_those_before_it_stay(api):
    lie = Packed(Head(CHUNKS[1], len(PIECES[0]), Coding.ZSTD), PIECES[0])
    body = pack_chunk(CHUNKS[0], PIECES[0]).wire + lie.wire + pack_chunk(CHUNKS[2], PIECES[2]).wire
    answer = await api.ask("POST", f"/v2/{ONE}/_dit4c/chunks/bundle", data=body)
    assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")
    assert (await api.missing(ONE, CHUNKS[:3])).json == {"missing": [1, 2]}


async def test_a_bundle_that_is_cut_keeps_what_came_whole(work, api):
    """issue: an upload cut at half sends one chunk again at the most."""
    bundle = [pack_chunk(chunk, piece).wire for chunk, piece in zip(CHUNKS, PIECES, strict=True)][
        :6
    ]
    sent = b"".join(bundle[:3]) + bundle[3][: len(bundle[3]) // 2]

    async def half():
        yield sent
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await api.ask("POST", f"/v2/{ONE}/_dit4c/chunks/bundle", data=half())
    async with work.api() as again:
        for _ in range(100):
            missing = (await again.missing(ONE, CHUNKS[:6])).json["missing"]
            if len(missing) == 3:
                break
    assert missing == [3, 4, 5]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x", 400),
        (bytes(ENTRY_BYTES), 400),
        (encode_chunks([CHUNKS[0]]) * 4097, 413),
        (bytes(32) + (2**31).to_bytes(4, "big"), 400),
    ],
    ids=["half an entry", "no size", "too many", "too large a chunk"],
)
async def test_a_malformed_list_is_refused(api, body, status):
    for path in ("chunks/missing", "chunks/fetch"):
        assert (await api.ask("POST", f"/v2/{ONE}/_dit4c/{path}", data=body)).status == status


async def test_a_blob_of_more_than_20_gib_is_refused(api):
    """The sizes count as they are declared, before anything is put together."""
    chunks = [Chunk(bytes([n % 256, n // 256]) + bytes(30), 1024 * 1024) for n in range(20_481)]
    answer = await api.assemble(ONE, DIGEST, chunks)
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")


async def test_a_size_that_is_not_the_chunks_own_is_missing(api):
    await api.bundle(ONE, PIECES[0])
    wrong = CHUNKS[0]._replace(size=CHUNKS[0].size - 1)
    assert (await api.missing(ONE, [wrong])).json == {"missing": [0]}


async def test_the_extension_is_named(api):
    (extension,) = (await api.ask("GET", "/v2/_oci/ext/discover")).json["extensions"]
    assert extension["name"] == "_dit4c"
