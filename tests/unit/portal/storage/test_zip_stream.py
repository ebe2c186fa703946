"""An archive that is written while it is sent, read by zipfile and by Info-ZIP's rules."""

import io
import stat
import zipfile

import pytest

from dit4c_p2p.portal.storage.zip_stream import ZipStream


async def blocks(*parts):
    for part in parts:
        yield part


async def made():
    stream, sent = ZipStream(), []
    sent.append(stream.add_folder("d", 0))
    async for block in stream.add_file("d/ä", 1_700_000_000.0, blocks(b"one", b"two")):
        sent.append(block)
    sent.append(stream.add_link("d/l", 1e12, b"../x"))
    sent.append(stream.finish())
    return b"".join(sent)


async def test_what_was_sent_is_a_whole_archive():
    archive = zipfile.ZipFile(io.BytesIO(await made()))
    assert archive.testzip() is None
    assert archive.namelist() == ["d/", "d/ä", "d/l"]
    assert archive.read("d/ä") == b"onetwo"
    link = archive.getinfo("d/l")
    assert stat.S_ISLNK(link.external_attr >> 16)
    assert archive.getinfo("d/ä").date_time[:3] == (2023, 11, 14)
    assert link.date_time[0] == 1980, "a time that ZIP does not have"


async def test_blocks_are_sent_as_they_come():
    stream = ZipStream()
    sent = [block async for block in stream.add_file("f", 0, blocks(b"x" * 10, b"y" * 10))]
    assert b"x" * 10 in sent[0]
    assert b"y" * 10 in sent[1]
    stream.discard()


async def test_what_is_cut_short_is_no_archive():
    whole = await made()
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(whole[:-30]))
