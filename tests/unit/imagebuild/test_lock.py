"""One builder at a time."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.lock import exclusive_lock_file


async def test_the_second_is_told_and_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waiting = asyncio.Event()
    order: list[str] = []

    async def second() -> None:
        async with exclusive_lock_file(path, waiting.set):
            order.append("second")

    async with exclusive_lock_file(path, lambda: pytest.fail("nobody else has it")):
        task = asyncio.create_task(second())
        await asyncio.wait_for(waiting.wait(), 10)
        order.append("first")
    await asyncio.wait_for(task, 10)
    assert order == ["first", "second"]


async def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with contextlib.suppress(ZeroDivisionError):
        async with exclusive_lock_file(path, lambda: None):
            raise ZeroDivisionError
    async with asyncio.timeout(10), exclusive_lock_file(path, lambda: pytest.fail("still locked")):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_it_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = await asyncio.create_subprocess_exec(
        "flock", "--no-fork", str(path), "sh", "-c", "echo held; exec sleep 1000",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert await asyncio.wait_for(holder.stdout.readline(), 10) == b"held\n"
    async with asyncio.timeout(10), exclusive_lock_file(path, holder.kill):
        assert await holder.wait() != 0


async def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written") as failed:
        async with exclusive_lock_file(tmp_path / "no" / "lock", lambda: None):
            pytest.fail("there is no lock")
    assert "XDG_CACHE_HOME" in failed.value.hint
