"""Leases between real sessions: nobody sees what another may change, and nobody waits long."""

import asyncio
import errno
import time

import pytest
from systems.fileserver import FileServerSystem

from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import CompoundFlag
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import ALL_LEASES, LeaseKind, NoticeKind

NONE, READ, WRITE = LeaseKind.NONE, LeaseKind.READ, LeaseKind.WRITE
CREATE = OpenFlag.WRITE | OpenFlag.CREAT
FILE = b"/private/file"


def create(path=FILE, data=b"data", lease=NONE):
    return ops.OpenFile(path, CREATE, 0o644, lease), ops.WriteData(0, data), ops.CloseFile()


async def give_back(client, notice):
    for lease in notice.leases:
        await client.run(ops.ReturnLease(lease.file_id, lease.seq, lease.keep))


async def test_a_readers_lease_is_recalled_before_a_change(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as reader, system.session(ada) as writer:
        await writer.run(*create())
        read = await reader.run(ops.ReadFile(FILE, 100, READ))
        assert (read.data, read.grant.kind) == (b"data", READ)
        change = writer.start(*create(data=b"more"))
        notice = await reader.notice()
        assert notice.kind == NoticeKind.RECALL
        assert [one.file_id for one in notice.leases] == [read.attrs.file_id]
        assert not change.done()
        assert (await reader.run(ops.ReadFile(FILE, 100))).data == b"data"
        await give_back(reader, notice)
        assert [type(one) for one in await change] == [ops.OpenResult, ops.Done, ops.FileResult]
        assert (await reader.run(ops.ReadFile(FILE, 100, READ))).data == b"more"


async def test_a_stock_client_sees_what_a_holder_sends_when_it_is_asked(system: FileServerSystem):
    """The holder of a directory makes files behind everybody's back."""
    ada = system.person("ada")
    async with system.session(ada) as holder, system.sftp(ada) as stock:
        folder = await holder.run(ops.MakeDir(b"/private/work", 0o755, WRITE))
        assert folder.grant.kind == WRITE
        listing = asyncio.create_task(stock.listdir("/private/work"))
        notice = await holder.notice()
        assert notice.leases[0].keep == READ
        returned = ops.ReturnLease(folder.attrs.file_id, folder.grant.seq, READ)
        done = holder.start(*create(b"/private/work/late"), returned, flags=CompoundFlag.ORDERED)
        assert await listing == ["late"]
        assert isinstance((await done)[-1], ops.Done)


async def test_a_path_through_a_leased_directory_waits_too(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as holder, system.session(ada) as other:
        folder = await holder.run(ops.MakeDir(b"/private/a", 0o755, WRITE))
        look = other.start(ops.GetAttr(b"/private/a/b/c/file"))
        notice = await holder.notice()
        assert notice.leases[0].file_id == folder.attrs.file_id
        await holder.run(
            ops.MakeDir(b"/private/a/b"),
            ops.MakeDir(b"/private/a/b/c"),
            *create(b"/private/a/b/c/file"),
            ops.ReturnLease(folder.attrs.file_id, folder.grant.seq, NONE),
        )
        assert (await look).attrs.size == 4


async def test_a_lease_that_is_not_given_back_is_broken_in_5_s(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as stuck, system.session(ada) as other:
        await other.run(*create())
        await stuck.run(ops.GetAttr(FILE, READ))
        began = time.monotonic()
        change = other.start(*create(data=b"more"))
        assert (await stuck.notice()).kind == NoticeKind.RECALL
        while not change.done():
            await stuck.renew()  # it lives, and gives nothing back
            await asyncio.wait((change,), timeout=0.5)
        assert 4 < time.monotonic() - began < 6
        assert (await stuck.notice()).kind == NoticeKind.BROKEN


@pytest.mark.parametrize("ended", ["lost", "given back", "come back"])
async def test_leases_outlive_their_session_unless_the_mount_says_otherwise(
    system: FileServerSystem, ended
):
    ada = system.person("ada")
    async with system.session(ada) as other:
        began = time.monotonic()
        async with system.session(ada, mount=7) as holder:
            await holder.run(*create(lease=WRITE))
            if ended == "given back":
                await holder.run(ops.ReturnLease(ALL_LEASES, 0))
        if ended == "come back":
            async with system.session(ada, mount=7):
                assert (await other.run(ops.GetAttr(FILE))).attrs.size == 4
        assert (await other.run(ops.GetAttr(FILE))).attrs.size == 4
        took = time.monotonic() - began
        assert 4 < took < 7 if ended == "lost" else took < 4


ABOUT = int(time.time() * 1e9)


@pytest.mark.parametrize(
    ("before", "by", "refused"),
    [
        ("write", "other", True),
        ("write", "stock", True),
        ("write", "mount", False),
        ("write", None, False),
        ("replace", "other", True),
        ("remove", "other", True),
    ],
)
async def test_a_mount_that_comes_back_is_told_what_others_have_changed(
    system: FileServerSystem, before, by, refused
):
    ada = system.person("ada")
    async with system.session(ada) as other:
        async with system.session(ada, mount=7) as mount:
            opened, *_ = await mount.run(*create(data=b"before"))
            file_id = opened.attrs.file_id
        if by == "stock":
            async with system.sftp(ada) as client, client.open("private/file", "w") as file:
                await file.write("others")
        async with system.session(ada, mount=7 if by == "mount" else 0) as writer:
            if before == "write" and by in ("mount", "other"):
                await writer.run(ops.OpenFile(FILE, OpenFlag.WRITE), ops.WriteData(0, b"others"))
            elif before != "write":
                await writer.run(ops.Unlink(FILE))
                if before == "replace":
                    await writer.run(*create(data=b"others"))
        async with system.session(ada, mount=7) as mount:
            now = ops.ReopenFile(FILE, OpenFlag.WRITE, file_id, ABOUT)
            reopened, written, *_ = await mount.run(
                now, ops.WriteData(0, b"AFTER!"), ops.CloseFile(), flags=CompoundFlag.CONTINUE
            )
            asked = await mount.run(ops.RequireUnchanged(FILE, file_id, ABOUT))
            # A file that is made in the place of another has its number on most file systems.
            numbers = {"write": (78,), "replace": (78, errno.ESTALE), "remove": (errno.ENOENT,)}
            if not refused:
                assert isinstance(reopened, ops.OpenResult) and written == ops.Done()
                assert asked == ops.Done()
                return
            assert isinstance(reopened, ops.Failed) and reopened.errno in numbers[before]
            assert isinstance(asked, ops.Failed) and asked.errno in numbers[before]
            assert isinstance(written, ops.Failed)
        if before != "remove":
            read, *_ = (await other.run(ops.ReadFile(FILE, 100)),)
            assert read.data == b"others"


@pytest.mark.parametrize("since_s", [-60, 60])
async def test_a_server_that_was_started_anew_goes_by_the_files_time(
    system: FileServerSystem, since_s
):
    ada = system.person("ada")
    async with system.session(ada, mount=9) as mount:  # of which it knows nothing
        opened, *_ = await mount.run(*create())
        since_ns = time.time_ns() + since_s * 10**9
        result = await mount.run(
            ops.ReopenFile(FILE, OpenFlag.WRITE, opened.attrs.file_id, since_ns)
        )
        assert isinstance(result, ops.OpenResult if since_s > 0 else ops.Failed)


async def test_a_file_of_two_names_is_covered_by_no_lease(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as holder, system.session(ada) as other:
        await holder.run(*create(lease=WRITE))
        made = await holder.run(ops.MakeLink(FILE, b"/private/second"))
        assert made.attrs.nlink == 2
        assert (await holder.notice()).kind == NoticeKind.BROKEN
        assert (await holder.run(ops.GetAttr(FILE, READ))).grant.kind == NONE
        assert (await other.run(ops.GetAttr(b"/private/second"))).attrs.nlink == 2


async def test_what_is_written_through_a_handle_is_told_where_the_file_is_now(
    system: FileServerSystem,
):
    ada = system.person("ada")
    async with system.session(ada) as writer, system.session(ada) as reader:
        await writer.run(ops.MakeDir(b"/private/one"), ops.MakeDir(b"/private/two"))
        opened = await writer.run(ops.OpenFile(b"/private/one/file", CREATE))
        await writer.run(ops.RenamePath(b"/private/one/file", b"/private/two/file"))
        listed = await reader.run(ops.ListDir(b"/private/two", READ))
        assert listed.grant.kind == READ and listed.entries[0].attrs.size == 0
        write = writer.start(ops.WriteData(0, b"data", opened.handle))
        notice = await reader.notice()
        assert notice.leases[0].file_id == listed.attrs.file_id
        await give_back(reader, notice)
        assert await write == ops.Done()


async def test_ordered_compounds_follow_each_other(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as client:
        tasks = [client.start(ops.MakeDir(b"/private/d"), flags=CompoundFlag.ORDERED)]
        for number in range(200):
            name = b"/private/d/%d" % number
            renamed = ops.RenamePath(name, name + b"-renamed")
            tasks.append(client.start(*create(name), flags=CompoundFlag.ORDERED))
            tasks.append(client.start(renamed, flags=CompoundFlag.ORDERED))
        results = [await task for task in tasks]
        assert not [one for one in results if isinstance(one, ops.Failed)]
        listed = await client.run(ops.ListDir(b"/private/d"))
        assert len(listed.entries) == 200


async def test_a_failure_ends_a_compound_unless_it_is_to_go_on(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as client:
        operations = (ops.Unlink(b"/private/none"), ops.MakeDir(b"/private/made"))
        failed, not_run = await client.run(*operations)
        assert (failed.errno, not_run) == (2, ops.NotRun())
        failed, made = await client.run(*operations, flags=CompoundFlag.CONTINUE)
        assert (failed.errno, type(made)) == (2, ops.EntryResult)
        opened, written, closed = await client.run(
            ops.OpenFile(b"/private/made", CREATE),
            ops.WriteData(0, b"x"),
            ops.CloseFile(),
            flags=CompoundFlag.CONTINUE,
        )
        assert [one.errno for one in (opened, written, closed)] == [21, 9, 9]


async def test_a_long_directory_comes_in_pieces(system: FileServerSystem):
    ada = system.person("ada")
    folder = system.private("ada") / "long"
    async with system.session(ada) as client:
        await client.run(ops.MakeDir(b"/private/long"))
        names = {f"{'name' * 20}-{number}".encode() for number in range(2500)}
        for name in names:
            (folder / name.decode()).touch()
        listed = await client.run(ops.ListDir(b"/private/long", READ))
        assert listed.grant.kind == READ and listed.handle
        found = [entry.name for entry in listed.entries]
        while listed.handle:
            listed = await client.run(ops.ListMore(listed.handle))
            found += [entry.name for entry in listed.entries]
        assert len(found) == 2500 and set(found) == names


async def test_ids_stay_when_the_server_starts_anew(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as client:
        await client.run(*create())
        first, terms = await client.run(ops.GetAttr(FILE)), client.terms
    await system.server.stop()
    await system.server.start()
    async with system.session(ada) as client:
        again = await client.run(ops.GetAttr(FILE))
        assert again.attrs == first.attrs
        assert client.terms.server_id != terms.server_id


@pytest.mark.parametrize("path", [b"/", b"/shared"])
async def test_virtual_folders_are_leased_until_grants_change(system: FileServerSystem, path):
    ada = system.person("ada")
    async with system.session(ada) as client:
        listed = await client.run(ops.ListDir(path, WRITE))
        assert listed.grant.kind == READ
        before = {entry.name for entry in listed.entries}
        grants = system.portal.grants["user-ada"]
        kept = [folder for folder in grants.folders if folder.path != "shared/lab"]
        system.portal.grant("user-ada", *kept)
        notice = await client.notice()
        assert listed.attrs.file_id in [lease.file_id for lease in notice.leases]
        after = {entry.name for entry in (await client.run(ops.ListDir(path))).entries}
        assert before - after == ({b"lab"} if path == b"/shared" else set())
