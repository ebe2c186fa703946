"""OpenRefine, confined as in a pod: it works under its canonical host and keeps what it has."""

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from dit4c_p2p.node.owner.policy import Policy

pytestmark = pytest.mark.engine

Serve = Callable[[str], Awaitable[Any]]

ROWS = "town,people\nKraków,800000\nŁódź,670000\n"


@pytest.fixture
async def openrefine(serve: Serve) -> Any:
    return await serve("openrefine")


class Client:
    """OpenRefine's commands, as its page sends them."""

    def __init__(self, tool: Any, session: aiohttp.ClientSession) -> None:
        self._tool = tool
        self._session = session

    async def get(self, command: str, **parameters: object) -> Any:
        url = f"{self._tool.url}/command/core/{command}"
        async with self._session.get(
            url, params={k: str(v) for k, v in parameters.items()}, headers=self._tool.headers
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json(content_type=None)

    async def create(self, name: str, text: str) -> int:
        """A project from CSV; its number."""
        token = (await self.get("get-csrf-token"))["token"]
        form = aiohttp.FormData()
        form.add_field("project-name", name)
        form.add_field("project-file", text.encode(), filename="towns.csv", content_type="text/csv")
        async with self._session.post(
            f"{self._tool.url}/command/core/create-project-from-upload",
            params={"csrf_token": token},
            data=form,
            headers=self._tool.headers,
            allow_redirects=False,
        ) as response:
            assert response.status == 302, await response.text()
            return int(response.headers["Location"].rpartition("=")[2])

    async def cells(self, project: int) -> list[list[Any]]:
        found = await self.get("get-rows", project=project, start=0, limit=10)
        return [[cell["v"] for cell in row["cells"]] for row in found["rows"]]


async def test_a_project_is_made_and_kept(openrefine: Any) -> None:
    assert openrefine.port == 3333
    async with aiohttp.ClientSession() as session:
        client = Client(openrefine, session)
        project = await client.create("towns", ROWS)
        assert await client.cells(project) == [["Kraków", "800000"], ["Łódź", "670000"]]

    # It saves now and then, and whoever ends it loses nothing.
    await openrefine.container.stop(t=30)
    state = (await openrefine.container.show())["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (143, False)
    await openrefine.container.start()
    await openrefine.answers()
    assert f"{project}.project" in await openrefine.output("ls", "/home/user/openrefine")
    async with aiohttp.ClientSession() as session:
        found = await Client(openrefine, session).cells(project)
    assert found == [["Kraków", "800000"], ["Łódź", "670000"]]


async def test_it_is_its_user_s_without_powers_and_fits_the_memory_it_is_lent(
    openrefine: Any,
) -> None:
    status = await openrefine.output("cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Name"].strip() == "java"
    assert fields["Uid"].split() == ["1000"] * 4
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    command = (await openrefine.output("cat", "/proc/1/cmdline")).split("\0")
    heap = next(word for word in command if word.startswith("-Xmx"))
    limit_mib = Policy().memory_bytes // 1024**2
    # Java wants some hundreds beside its heap.
    assert int(heap.removeprefix("-Xmx").removesuffix("M")) <= limit_mib - 700


async def test_it_asks_nobody_for_a_newer_release(openrefine: Any) -> None:
    async with aiohttp.ClientSession() as session:
        version = await Client(openrefine, session).get("get-version")
    assert version["display_new_version_notice"] == "false"
