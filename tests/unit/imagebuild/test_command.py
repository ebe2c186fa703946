"""Programs run to their end, and ended in time."""

import asyncio
import os
import select
import sys
from pathlib import Path

import pytest

from dit4c_p2p.imagebuild.command import TAIL_LINES, CommandFailed, run_command


async def test_every_line_is_told() -> None:
    lines: list[str] = []
    script = r"printf 'one\n\n  two  \n10%%\r20%%\n'; echo three >&2; printf last"
    await run_command(["sh", "-c", script], on_line=lines.append, timeout_s=10)
    assert lines == ["one", "two", "20%", "three", "last"]


async def test_an_endless_line_is_cut_and_not_kept() -> None:
    lines: list[str] = []
    argv = [sys.executable, "-c", "print('x' * 100_000)"]
    await run_command(argv, on_line=lines.append, timeout_s=10)
    assert "".join(lines) == "x" * 100_000
    assert max(map(len, lines)) < 100_000


async def test_the_environment_is_added_to() -> None:
    lines: list[str] = []
    argv = ["sh", "-c", 'echo "$PATH|$MORE"']
    await run_command(argv, on_line=lines.append, timeout_s=10, environment={"MORE": "1"})
    assert lines == [f"{os.environ['PATH']}|1"]


async def test_a_failure_has_the_end_of_the_output() -> None:
    script = f"seq {TAIL_LINES + 5}; exit 3"
    with pytest.raises(CommandFailed, match="sh failed with status 3") as failed:
        await run_command(["sh", "-c", script], on_line=lambda line: None, timeout_s=10)
    assert failed.value.tail == tuple(str(n) for n in range(6, TAIL_LINES + 6))


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match="no-such-program could not be started"):
        await run_command(["no-such-program"], on_line=lambda line: None, timeout_s=10)


async def test_when_the_time_is_up_its_children_end_too(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = f"sleep 1000 >{fifo} & sleep 1000"
        with pytest.raises(CommandFailed, match=r"not done after 0\.5 s"):
            await run_command(["sh", "-c", script], on_line=lambda line: None, timeout_s=0.5)
        # The end of the file comes when nobody has it open for writing any more.
        readable, _, _ = select.select([reader], [], [], 10)
        assert readable
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


async def test_when_cancelled_the_program_ends() -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        run_command(
            ["sh", "-c", "echo $$; exec sleep 1000"],
            on_line=lambda line: started.set_result(int(line)),
            timeout_s=100,
        )
    )
    pid = await asyncio.wait_for(started, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
