"""A key of the system's own parts is revoked while it runs: cut at once, said clearly, no harm."""

import asyncio

import pytest
from systems.all_in_one import browser_session, log_in

pytestmark = pytest.mark.engine

# security.md, section 4: live connections are cut within this.
CUT_S = 10


async def fingerprint_of(api, name):
    keys = await api.call("GET", "keys")
    (found,) = [key for key in keys if key["name"] == name and not key["revoked"]]
    return found["fingerprint"]


async def log_says(system, words, since, timeout=CUT_S):
    log = system.data / "dit4c.log"
    async with asyncio.timeout(timeout):
        while words not in log.read_text()[since:]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["scheduler-main", "router-main", "node-main"])
async def test_revoked_while_connected_cut_within_ten_seconds(own_system, name):
    own_system.start()
    log = own_system.data / "dit4c.log"
    async with own_system.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
        since = len(log.read_text())
        await api.call("POST", f"keys/{await fingerprint_of(api, name)}/revoke")
        await log_says(own_system, f"cut {name}", since)
        # Nothing is thrown away because somebody was silenced.
        await asyncio.sleep(1)
        assert (await api.call("GET", f"instances/{instance}"))["state"] == "running"
        # The mounter is there only while the files are being mounted.
        parts = [one for one in own_system.at_engine(instance) if not one.endswith("-mounter")]
        assert len(parts) == 9
    own_system.stop()
    # It can't come back by itself, and whoever starts it is told what to do.
    with pytest.raises(AssertionError) as refused:
        own_system.start()
    (line,) = [line for line in str(refused.value).splitlines() if line.startswith("dit4c:")]
    assert name in line
    assert "revoked" in line
    assert "key" in line


async def test_an_instance_that_is_revoked_loses_its_way_in_at_once(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        running = await api.wait_for(instance, "running", url=True)
        async with browser_session(own_system.access["portal"], running["url"]) as browser:
            await log_in(browser, own_system.access["login_url"])
            async with browser.get(running["url"]) as page:
                assert page.status == 200
            await api.call(
                "POST", f"keys/{await fingerprint_of(api, f'instance-{instance}')}/revoke"
            )
            async with asyncio.timeout(CUT_S):
                while True:
                    try:
                        async with browser.get(running["url"]) as page:
                            if page.status >= 400:
                                break
                    except OSError:
                        continue
        await api.discard(instance)
        assert own_system.at_engine() == []
