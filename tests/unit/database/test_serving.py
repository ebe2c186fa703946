"""One process serves from a database, on either engine; a server that is not up is waited for."""

import asyncio
import sys

import asyncpg
import pytest
from lib.database_engines import MIGRATE, OWN

from dit4c_p2p.database import in_transaction, postgresql, postgresql_hold, serving
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.models import Counter

pytestmark = pytest.mark.both_databases

SERVE = MIGRATE.replace("databases", "serving").replace(
    "        pass", "        print('in', flush=True); input()"
)
LIMIT_S = 20
ON_SERVER = [OWN[1]]


@pytest.fixture
def spec(engine, tmp_path):
    return engine.database("portal", tmp_path)


@pytest.fixture
async def process(spec):
    """Start a program on the database; they all end with the test."""
    started = []

    async def start(program):
        pipe = asyncio.subprocess.PIPE
        one = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "portal", str(spec.location)),
            stdin=pipe, stdout=pipe, stderr=pipe,
        )  # fmt: skip
        started.append(one)
        return one

    yield start
    for one in started:
        if one.returncode is None:
            one.kill()
            await one.wait()


async def ended(process):
    """Its status, and the last line that it has said."""
    async with asyncio.timeout(LIMIT_S):
        _, said = await process.communicate(b"\n")
    return process.returncode, (said.decode().splitlines() or [""])[-1]


async def test_a_second_process_is_refused_and_commands_are_not(spec, process):
    async with serving([spec]):
        status, said = await ended(await process(SERVE))
        assert status == 1
        assert f"another process serves from {spec} already" in said
        assert await ended(await process(MIGRATE)) == (0, "")
    assert await ended(await process(SERVE)) == (0, "")


async def test_one_that_was_killed_holds_nothing(spec, process):
    first = await process(SERVE)
    async with asyncio.timeout(LIMIT_S):
        assert await first.stdout.readline() == b"in\n"
    assert (await ended(await process(SERVE)))[0] == 1
    first.kill()
    await first.wait()
    async with asyncio.timeout(LIMIT_S):
        while (await ended(await process(SERVE)))[0] != 0:
            pass


async def test_what_goes_wrong_inside_stays_what_it_is(spec):
    with pytest.raises(ZeroDivisionError):
        async with serving([spec]):
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), serving([spec]):
            await asyncio.Event().wait()


@pytest.mark.parametrize("engine", ON_SERVER, indirect=True)
async def test_after_its_server_was_gone_it_is_the_one_again(
    spec, engine, process, monkeypatch, caplog
):
    monkeypatch.setattr(postgresql_hold, "_LOOK_S", 0.05)
    caplog.set_level("INFO")
    async with serving([spec]):
        with engine.gone(spec):
            async with asyncio.timeout(LIMIT_S):
                while "the line to the database broke" not in caplog.text:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(LIMIT_S):
            while "the database is back" not in caplog.text:
                await asyncio.sleep(0.01)
        assert "another process serves" in (await ended(await process(SERVE)))[1]
        async with in_transaction("portal"):
            assert await Counter.all().count() == 0


@pytest.mark.parametrize("engine", ON_SERVER, indirect=True)
async def test_when_another_was_quicker_it_ends(spec, engine, monkeypatch):
    monkeypatch.setattr(postgresql_hold, "_LOOK_S", 0.05)
    other = await asyncpg.connect(spec.url)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with pytest.raises(ConfigError, match="another process serves"):
        async with asyncio.timeout(LIMIT_S), serving([spec]):
            taken = asyncio.create_task(
                other.execute("SELECT pg_advisory_lock($1)", postgresql_hold._SERVER)
            )
            while engine.server.sql(waiting) != ["1"]:
                await asyncio.sleep(0.01)
            engine.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'dit4c portal serves'"
            )
            await taken
            await asyncio.Event().wait()
    await other.close()


@pytest.mark.parametrize("engine", ON_SERVER, indirect=True)
async def test_a_server_that_is_not_up_is_waited_for(spec, engine, monkeypatch, caplog):
    async def serve():
        async with serving([spec]):
            return await Counter.all().count()

    with engine.gone(spec):
        serving_task = asyncio.create_task(serve())
        async with asyncio.timeout(LIMIT_S):
            while "waiting for it, 60 s at most" not in caplog.text:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(LIMIT_S):
        assert await serving_task == 0
    assert caplog.text.count("waiting for it") == 1
    monkeypatch.setattr(postgresql, "_PATIENCE_S", 0)
    with engine.gone(spec), pytest.raises(ConfigError, match="can't be reached"):
        await serve()
