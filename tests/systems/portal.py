"""A real portal on a port of its own, and those who speak to it: a browser, a scheduler.

async with PortalAtWork(tmp_path) as work:
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
    async with work.scheduler() as scheduler: ...
"""

import asyncio
import html
import json
import re
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncssh
from lib import database_engines
from systems.all_in_one import free_ports

from dit4c_p2p.database import databases
from dit4c_p2p.identity import sshsig, tokens
from dit4c_p2p.identity.keys import fingerprint, generate, parse_public, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    INSTANCE_KEY_NAMESPACE,
    LINK_NAMESPACE,
    Ack,
    AllocatedKey,
    Challenge,
    Hello,
    InstanceReport,
    PortalFrame,
    StartInstance,
    ToPortalEnvelope,
    ToSchedulerEnvelope,
    Welcome,
    key_statement,
    opening_statement,
)
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.portal import CatalogueImage, Limits, Portal, PortalConfig

IMAGE = "sha256:" + "5" * 64
WAIT_S = 10.0


class Clock:
    """The portal's time; ``clock.ahead`` moves it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class PortalAtWork:
    """A portal with an admin, a router, a scheduler and a node enrolled.

    :ivar keys: the private key of each enrolled peer, by name.
    :ivar token: the admin's API token.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://localhost:{self.port}"
        self.clock = Clock()
        self.keys: dict[str, asyncssh.SSHKey] = {}
        self.token = ""
        self.config = PortalConfig(
            data_folder=folder / "portal",
            url=self.url,
            addresses=(("127.0.0.1", self.port),),
            connect=(f"127.0.0.1:{self.port}",),
            user_url="http://{id}.localhost:8081/",
            routers=(
                RouterInfo(name="router-main", ssh=["127.0.0.1:8022"], http=["127.0.0.1:8081"]),
            ),
            catalogue=(
                CatalogueImage("jupyterlab", "JupyterLab", "Notebooks, in a browser.", IMAGE),
            ),
            limits=limits or Limits(),
        )
        self.database = database_engines.database("portal", self.config.data_folder)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(databases([self.database]))
        await self.start()
        await self.portal.ensure_admin("admin")
        for name in ("router-main", "scheduler-main", "node-main"):
            await self.enrol(name)
        self.token = await self.portal.create_api_token("admin", "test")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
        await self._stack.aclose()

    async def start(self) -> None:
        """Start a portal on this data folder."""
        self.portal = Portal(self.config, clock=self.clock)
        await self.portal.start()

    async def stop(self) -> None:
        """Stop it; the database stays open."""
        await self.portal.stop()

    async def enrol(self, name: str) -> asyncssh.SSHKey:
        """Publish a new key for a peer."""
        peer, key = PeerName.parse(name), generate()
        scheduler = "main" if name.startswith("node-") else None
        await self.portal.enrol_own("admin", peer, key, scheduler=scheduler)
        self.keys[name] = key
        return key

    async def person(self, name: str) -> str:
        """A person who is no admin, and their API token."""
        from dit4c_p2p.portal.accounts import people

        await people.ensure_person(name, name=name.title(), is_admin=False, now=self.clock())
        return await self.portal.create_api_token(name, "test")

    async def login_link(self, person: str = "admin") -> str:
        """A link to click."""
        return f"{self.url}/login/{await self.portal.create_login_link(person)}"

    def browser(self) -> "Browser":
        """A browser without cookies."""
        return Browser(self.url)

    def api(self, token: str | None = None) -> "Api":
        """A client of the HTTP API."""
        return Api(self.url, self.token if token is None else token)

    def scheduler(self, name: str = "scheduler-main") -> "FakeScheduler":
        """The scheduler's end of the link, with its enrolled key."""
        return FakeScheduler(self, PeerName.parse(name), self.keys[name])

    def jwt(self, name: str, *, key: asyncssh.SSHKey | None = None, **more: Any) -> str:
        """A peer's token for the portal."""
        now = more.pop("now", self.clock())
        audience = more.pop("audience", self.url)
        return tokens.issue(key or self.keys[name], PeerName.parse(name), audience, now=now, **more)

    def with_config(self, **changes: Any) -> None:
        """Change the configuration before the next start."""
        self.config = replace(self.config, **changes)


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.text = body.decode(errors="replace")
        self.location = response.headers.get("Location", "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A session that follows no redirect and keeps no cookie by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=20)
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()

    async def request(self, method: str, path: str, **more: Any) -> Answer:
        """One request; ``path`` may be a whole URL of the portal's."""
        url = path if path.startswith("http") else self.url + path
        headers = {**self.headers, **more.pop("headers", {})}
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **more
        ) as response:
            answer = Answer(response, await response.read())
        self._took(response)
        return answer

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Answer:
        return await self.request("POST", path, **more)

    def _took(self, response: aiohttp.ClientResponse) -> None:
        """For subclasses."""


class Api(Client):
    """The HTTP API with a token."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url + "/api/v1/")
        self.headers = {"Authorization": f"Bearer {token}"}


class Browser(Client):
    """Keeps cookies as a browser does on ``http://localhost``, and says where a form is from."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []
        self.headers = {"Accept": "text/html,application/xhtml+xml"}

    async def request(self, method: str, path: str, **more: Any) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies} if cookies else {}
        return await super().request(
            method, path, **{**more, "headers": {**headers, **more.get("headers", {})}}
        )

    def _took(self, response: aiohttp.ClientResponse) -> None:
        for line in response.headers.getall("Set-Cookie", []):
            self.set_cookies.append(line)
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value

    async def submit(self, path: str, *, origin: str | None = "", **fields: str) -> Answer:
        """Post a form; ``origin`` is the portal's own unless given, None sends none."""
        headers = {} if origin is None else {"Origin": origin or self.url}
        return await self.post(path, data=fields, headers=headers)

    async def log_in(self, link: str) -> Answer:
        """Open a login link and press its button, as Chromium does it."""
        page = await self.get(link)
        return await self.submit(link, origin="null", **hidden_fields(page.text))

    async def csrf(self) -> str:
        """The session's form token."""
        return hidden_fields((await self.get("/")).text)["csrf"]


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden inputs of a page."""
    fields = {}
    for tag in re.findall(r'<input type="hidden"[^>]+>', page):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        fields[attributes["name"]] = html.unescape(attributes["value"])
    return fields


def beside(page: str, field: str) -> str:
    """What a page says is wrong beside one of its fields, and nowhere else."""
    assert f'aria-invalid="true" aria-describedby="wrong-{field}"' in page
    assert len(re.findall(r'role="alert"(?! hidden)', page)) == 1
    return page.split(f'id="wrong-{field}"', 1)[1].split("</span>", 1)[0]


class FakeScheduler:
    """A scheduler's end of the link over a real WebSocket, with a real key."""

    def __init__(
        self, work: PortalAtWork, name: PeerName, key: asyncssh.SSHKey, via: str = ""
    ) -> None:
        """:param via: ``host:port`` to connect to instead of the portal's own."""
        self.work = work
        self._via = via or f"127.0.0.1:{work.port}"
        self.name = name
        self.key = key
        self.sequence: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        self.socket = await self._session.ws_connect(
            f"http://{self._via}/schedulers/{self.name.id}/link",
            headers={"Host": f"localhost:{self.work.port}"},
        )
        await self._open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def _open(self) -> None:
        challenge = await self.frame()
        assert isinstance(challenge, Challenge), challenge
        nonce = uuid.uuid4().hex

        def statement(signer: str) -> bytes:
            return opening_statement(signer, str(self.name), self.work.url, challenge.nonce, nonce)

        signature = sshsig.sign(self.key, statement("scheduler"), LINK_NAMESPACE)
        await self.say(Hello(name=str(self.name), nonce=nonce, signature=signature))
        welcome = await self.frame()
        assert isinstance(welcome, Welcome), welcome
        portal_key = parse_public(self.work.portal.info.key)
        sshsig.verify(statement("portal"), welcome.signature, LINK_NAMESPACE, [portal_key])

    async def say(self, frame: Any) -> None:
        """One frame."""
        await self.socket.send_str(encode(frame).decode())

    async def frame(self) -> Any:
        """The next frame; a close is a :class:`ConnectionError` with its code and reason."""
        message = await self.socket.receive(timeout=WAIT_S)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(self.socket.close_code, message.extra)
        return decode(message.data, PortalFrame)

    async def message(self, kind: type, *, ack: bool = True) -> Any:
        """The next message of a kind; others are acknowledged and passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = await self.frame()
                if not isinstance(frame, ToSchedulerEnvelope):
                    continue
                if ack:
                    await self.say(Ack(id=frame.id))
                if isinstance(frame.body, kind):
                    return frame.body

    async def tell(self, body: Any, *, id: str = "") -> None:
        """Send a message and wait until the portal has it."""
        envelope = ToPortalEnvelope(id=id or uuid.uuid4().hex, body=body)
        await self.say(envelope)
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = await self.frame()
                if isinstance(frame, Ack) and frame.id == envelope.id:
                    return

    async def report(self, instance: str, state: State, info: str = "", **more: Any) -> None:
        """Say what became of an instance."""
        number = self.sequence.get(instance, -1) + 1
        self.sequence[instance] = number
        await self.tell(
            InstanceReport(instance=instance, sequence=number, state=state, info=info, **more)
        )

    async def allocate(self, start: StartInstance, *, node: str = "node-main") -> asyncssh.SSHKey:
        """Have a new key for an instance published; returns the private key."""
        key = generate()
        await self.tell(allocated(self.work, start, key, node=node))
        return key


def allocated(
    work: PortalAtWork,
    start: StartInstance,
    key: asyncssh.SSHKey,
    *,
    node: str = "node-main",
    nonce: str | None = None,
    node_key: asyncssh.SSHKey | None = None,
    instance_key: asyncssh.SSHKey | None = None,
) -> AllocatedKey:
    """What an instance and its node sign; each part can be made wrong."""
    statement = key_statement(
        start.instance, node, fingerprint(key), start.key_nonce if nonce is None else nonce
    )
    return AllocatedKey(
        instance=start.instance,
        node=node,
        public_key=public_line(key),
        instance_signature=sshsig.sign(instance_key or key, statement, INSTANCE_KEY_NAMESPACE),
        node_signature=sshsig.sign(node_key or work.keys[node], statement, INSTANCE_KEY_NAMESPACE),
    )


async def running_instance(
    work: PortalAtWork, scheduler: FakeScheduler
) -> tuple[str, asyncssh.SSHKey]:
    """An instance of the admin's that runs and answers; its id and its private key."""
    async with work.api() as api:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json
    start = await scheduler.message(StartInstance)
    assert start.instance == made["id"]
    key = await scheduler.allocate(start)
    await scheduler.report(made["id"], State.RUNNING, node="node-main")
    await answers_on(work, made["id"], key)
    return made["id"], key


async def answers_on(work: PortalAtWork, instance: str, key: asyncssh.SSHKey) -> None:
    """The listener's own words."""
    async with Client(work.url) as client:
        said = await client.request(
            "PUT",
            "/instances/",
            data=b'{"routers": ["router-main"]}',
            headers={"Authorization": f"Bearer {work.jwt(f'instance-{instance}', key=key)}"},
        )
        assert said.status == 204, said.text
