"""JupyterLab, confined as in a pod: it answers its user without asking, and nobody else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiodocker.containers import DockerContainer

from dit4c_p2p.imagebuild import Images

pytestmark = pytest.mark.engine

Run = Callable[..., Awaitable[DockerContainer]]

CONFINED = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "PidsLimit": 512,
    "PortBindings": {"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
}
CANONICAL = "abc.example.org"


@pytest.fixture
async def address(run: Run, images: Images) -> str:
    """Where JupyterLab answers."""
    container = await run(images.catalogue[0].image, HostConfig=CONFINED)
    ports = (await container.show())["NetworkSettings"]["Ports"]
    found = f"http://127.0.0.1:{ports['8888/tcp'][0]['HostPort']}"
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{found}/api"):
                    return found
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def test_it_runs_code_for_whoever_is_let_through(address: str) -> None:
    headers = {"Host": CANONICAL, "Origin": f"https://{CANONICAL}"}
    # A jar that takes cookies from an address, too.
    jar = aiohttp.CookieJar(unsafe=True)
    async with asyncio.timeout(60), aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(f"{address}/", headers=headers) as response:
            assert response.status == 200
            assert response.url.path == "/lab"
            page = await response.text()
        assert '"quitButton": false' in page
        assert '"news": {"disabled": true}' in page
        assert '"token": ""' in page

        cookie = jar.filter_cookies(response.url)["_xsrf"].value
        async with session.post(
            f"{address}/api/kernels", json={}, headers={**headers, "X-XSRFToken": cookie}
        ) as response:
            assert response.status == 201
            kernel = (await response.json())["id"]
        channels = f"{address}/api/kernels/{kernel}/channels"
        async with session.ws_connect(channels, headers=headers) as kernel_socket:
            await kernel_socket.send_json(execute_request("print(6 * 7)"))
            while True:
                message = json.loads((await kernel_socket.receive()).data)
                if message["msg_type"] == "stream":
                    assert message["content"]["text"] == "42\n"
                    return


async def test_its_page_has_the_instance_s_name_and_a_way_back(
    serve: Callable[[str], Awaitable[Any]],
) -> None:
    tool = await serve("jupyterlab")
    settings = "/lab/api/settings/@jupyterlab/application-extension:top-bar"
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        async with session.get(f"{tool.url}/lab", headers=tool.headers) as response:
            assert '"appName": "Field data"' in await response.text()
        async with session.get(f"{tool.url}{settings}", headers=tool.headers) as response:
            (link,) = (await response.json())["schema"]["properties"]["toolbar"]["default"]
    assert link["args"]["url"] == "https://portal.example.org"
    assert link["label"].startswith("Field data")


async def test_another_sites_page_gets_no_socket(address: str) -> None:
    headers = {"Host": CANONICAL, "Origin": "https://evil.example.org"}
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{address}/api/events/subscribe", headers=headers)


async def test_its_user_owns_the_environment_and_is_not_root(run: Run, images: Images) -> None:
    container = await run(
        images.catalogue[0].image,
        Cmd=["sh", "-c", "id -u; pwd; touch $HOME/x /opt/jupyter/lib/x && command -v python"],
        HostConfig={"CapDrop": ["ALL"], "NetworkMode": "none"},
    )
    await asyncio.wait_for(container.wait(), 20)
    lines = "".join(await container.log(stdout=True, stderr=True)).split()
    assert lines == ["1000", "/home/jovyan", "/opt/jupyter/bin/python"]


def execute_request(code: str) -> dict[str, object]:
    """Jupyter's messaging protocol 5.3."""
    return {
        "header": {
            "msg_id": "1", "session": "1", "username": "", "msg_type": "execute_request",
            "version": "5.3",
        },
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False},
        "channel": "shell",
    }  # fmt: skip
