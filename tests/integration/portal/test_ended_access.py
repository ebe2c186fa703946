"""Whose access has ended, as the routers hear of it: by each way to end it, from the portal."""

import asyncio
import contextlib
import time

import aiohttp
import pytest
from systems.portal import PortalAtWork

from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.portal.models import OAuthToken, Person, Session

# The whole way to the instance has 5 s.
TOLD_S = 2.0


class Router:
    """A router's registry client, and what it has heard."""

    def __init__(self, work: PortalAtWork, name: str = "router-main") -> None:
        self.work, self.name = work, name
        self.heard: asyncio.Queue = asyncio.Queue()

    async def __aenter__(self) -> "Router":
        self._stack = contextlib.AsyncExitStack()
        client = await self._stack.enter_async_context(PortalClient(self.work.portal.info))
        registry = Registry(
            client,
            None,
            prove=lambda: self.work.jwt(self.name),
            on_access_ended=lambda ended: [self.heard.put_nowait(one) for one in ended],
        )
        self._task = asyncio.create_task(registry.run())
        async with asyncio.timeout(5):
            while not registry.live:
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stack.aclose()

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(TOLD_S):
            one = await self.heard.get()
        return one.instance, one.person


async def grant(work, person: str, instance: str, session: str) -> None:
    """An access token, as a login at an instance makes one."""
    now = work.clock()
    await Session.get_or_create(
        digest=session,
        defaults={"person_id": person, "created_at": now, "used_at": now, "browser": "test"},
    )
    await OAuthToken.create(
        digest=f"{person}-{instance}-{session}"[:64],
        code="c",
        instance=instance,
        person_id=person,
        session=session,
        created_at=now,
        expires_at=now + 3600,
    )


async def one_session_ends(work, browser):
    await browser.submit("/logout", csrf=await browser.csrf())


async def all_sessions_end(work, browser):
    await browser.submit("/logout", csrf=await browser.csrf(), everywhere="1")


async def an_admin_disables(work, browser):
    async with work.api() as api:
        assert (await api.request("PATCH", "people/ada", json={"disabled": True})).status == 200


async def the_end_date_comes(work, browser):
    await Person.filter(id="ada").update(ends_at=work.clock() + 0.2)


@pytest.mark.parametrize(
    "end", [one_session_ends, all_sessions_end, an_admin_disables, the_end_date_comes]
)
async def test_a_router_is_told_at_once(work, end):
    await work.person("ada")
    async with work.browser() as browser, Router(work) as router:
        await browser.log_in(await work.login_link("ada"))
        (session,) = await Session.filter(person_id="ada")
        await grant(work, "ada", "one", session.digest)
        await grant(work, "ada", "two", session.digest)
        await grant(work, "admin", "three", "another")
        await end(work, browser)
        assert {await router.next(), await router.next()} == {("one", "ada"), ("two", "ada")}
        assert router.heard.empty()
    async with Router(work) as again:  # told whole after a reconnect
        assert {await again.next(), await again.next()} == {("one", "ada"), ("two", "ada")}
    await work.stop()
    await work.start()
    async with Router(work) as again:  # and after the portal's
        assert {await again.next(), await again.next()} == {("one", "ada"), ("two", "ada")}


@pytest.mark.both_databases
async def test_another_session_of_the_same_person_is_not_meant(work):
    await work.person("ada")
    async with work.browser() as browser, Router(work) as router:
        await browser.log_in(await work.login_link("ada"))
        (session,) = await Session.filter(person_id="ada")
        await grant(work, "ada", "mine", session.digest)
        await grant(work, "ada", "elsewhere", "another browser's")
        await one_session_ends(work, browser)
        assert await router.next() == ("mine", "ada")
        assert router.heard.empty()


@pytest.mark.parametrize("who", ["nobody", "node-main", "forged"])
async def test_only_routers_hear_who_it_is(work, who):
    await grant(work, "admin", "one", "s")
    await OAuthToken.all().update(revoked_at=work.clock())
    token = "x.y.z" if who == "forged" else "" if who == "nobody" else work.jwt(who)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{work.url}/keys/events", headers=headers) as stream:
            assert stream.status == {"nobody": 200, "node-main": 403, "forged": 401}[who]
            if who == "nobody":
                seen, until = b"", time.monotonic() + 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while time.monotonic() < until:
                            seen += await stream.content.readany()
                assert b"heartbeat" in seen and b"admin" not in seen


async def test_a_router_whose_key_is_not_known_yet_hears_of_keys_all_the_same(work):
    async with Router(work, "node-main") as router:
        assert router.heard.empty()
