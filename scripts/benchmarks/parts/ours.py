"""Our side: a router, a listener and an auth helper, each in a process of its own."""

import asyncio
import sys
from pathlib import Path

import asyncssh
from fakes.oauth_portal import OAuthPortal
from fakes.registry import RegistryPortal

from dit4c_p2p.helpers.auth.cookies import SESSION_COOKIE
from dit4c_p2p.helpers.pod_config import FOLDER_VARIABLE
from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.pod import HelperState, HelperStatus, PodConfig
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.net.http1 import find_head_end, parse_response_head, render_head
from parts.peer import Contestant
from parts.processes import Processes, line_of, until

ROUTER = PeerName.parse("router-main")
DIRECT = PeerName.parse("instance-bench")  # the target stands where the auth helper would
THROUGH = PeerName.parse("instance-path")  # with an auth helper before the app

Ports = tuple[int, int]


def router_info(ports: Ports) -> RouterInfo:
    """Where peers find the router with these HTTP and SSH ports."""
    http, ssh = ports
    return RouterInfo(name=str(ROUTER), ssh=[f"127.0.0.1:{ssh}"], http=[f"127.0.0.1:{http}"])


async def start_router(
    processes: Processes, folder: Path, ports: Ports = (0, 0)
) -> tuple[asyncio.subprocess.Process, Ports]:
    """A router with the key and the portal that ``folder`` holds."""
    program = Path(__file__).with_name("router_process.py")
    router = await processes.start(
        *(sys.executable, str(program), str(folder), *map(str, ports)),
        log=folder / "router.log",
        talks=True,
    )
    http, ssh = map(int, (await line_of(router, "the router")).split())
    return router, (http, ssh)


def introduce(folder: Path, portal: RegistryPortal) -> None:
    """Publish the router's key, and have ``folder`` hold what the router needs."""
    portal.publish(ROUTER, key := generate())
    write_private(folder / "router_key", key)
    (folder / "portal.json").write_bytes(encode(portal.info))


async def start_listener(
    processes: Processes,
    folder: Path,
    portal: RegistryPortal,
    ports: Ports,
    name: PeerName,
    key: asyncssh.SSHKey,
) -> Contestant:
    """A listener in pod folder ``folder``, where what answers has an ``auth.sock``.

    :param key: published for ``name``.
    :raises SystemExit: it does not come up.
    """
    host = _prepare(folder, portal, ports, name, key, app=80)
    await _start_helper(processes, folder, "listener", HelperState.PUBLISHED)
    return Contestant("dit4c-p2p", ports[0], host)


async def start_helpers(
    processes: Processes,
    folder: Path,
    portal: OAuthPortal,
    ports: Ports,
    name: PeerName,
    key: asyncssh.SSHKey,
    app: int,
) -> Contestant:
    """:func:`start_listener` with an auth helper, before the app at port ``app``; logged in."""
    host = _prepare(folder, portal, ports, name, key, app)
    await _start_helper(processes, folder, "auth", HelperState.APP_READY)
    await _start_helper(processes, folder, "listener", HelperState.PUBLISHED)
    cookie = await log_in(ports[0], host, portal)
    headers = {"Cookie": cookie, "Origin": f"http://{host}"}
    return Contestant("dit4c-p2p", ports[0], host, headers)


def _prepare(
    folder: Path,
    portal: RegistryPortal,
    ports: Ports,
    name: PeerName,
    key: asyncssh.SSHKey,
    app: int,
) -> str:
    """Have the pod folder hold what helpers need; the host that visitors name."""
    write_private(folder / "key", key)
    host = f"{name.id}.localhost:{ports[0]}"
    config = PodConfig(
        instance=str(name),
        url=f"http://{host}/",
        app_port=app,
        portal=portal.info,
        routers=[router_info(ports)],
    )
    (folder / "config.json").write_bytes(encode(config))
    return host


async def _start_helper(
    processes: Processes, folder: Path, helper: str, awaited: HelperState
) -> None:
    program = await processes.start(
        *(sys.executable, "-m", f"dit4c_p2p.helpers.{helper}"),
        log=folder / f"{helper}.log",
        env={FOLDER_VARIABLE: str(folder)},
        talks=True,
    )
    while decode(await line_of(program, f"the {helper}"), HelperStatus).state is not awaited:
        continue


async def log_in(port: int, host: str, portal: OAuthPortal) -> str:
    """Go through the login as a browser does; what it then sends as its ``Cookie``.

    :raises SystemExit: it is not let in.
    """
    location, cookie = await _redirected(port, host, "/", "")
    back = portal.visit(location)
    _, cookie = await _redirected(port, host, back.removeprefix(f"http://{host}"), cookie)
    if not cookie.startswith(SESSION_COOKIE.decode() + "="):
        raise SystemExit("the auth helper began no session")
    return cookie


async def _redirected(port: int, host: str, target: str, cookie: str) -> tuple[str, str]:
    """The location and the cookie that a page answers with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        fields = [(b"Host", host.encode()), (b"Accept", b"text/html")]
        if cookie:
            fields.append((b"Cookie", cookie.encode()))
        writer.write(render_head(f"GET {target} HTTP/1.1".encode(), fields))
        async with asyncio.timeout(10):
            data = await reader.readuntil(b"\r\n\r\n")
        head = parse_response_head(data[: find_head_end(data)], "GET")
        location = head.get(b"location")
        given = head.get(b"set-cookie")
        if location is None or given is None:
            raise SystemExit(f"GET {target} was answered with {head.status}, not a redirect")
        return location.decode(), given.decode().partition(";")[0]
    finally:
        writer.transport.abort()


async def start_echo(processes: Processes, folder: Path) -> None:
    """What answers WebSockets behind the app."""
    program = Path(__file__).with_name("echo.py")
    socket = folder / "echo.sock"
    await processes.start(
        *(sys.executable, str(program), "--serve", str(socket)), log=folder / "echo.log"
    )

    async def ready() -> bool:
        return socket.exists()

    await until("the echo server", ready)
