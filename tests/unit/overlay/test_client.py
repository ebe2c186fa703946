"""At which routers something is listened for, as that changes."""

import asyncio

from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.client import ListeningAtRouters


def router(id, port=8022):
    return RouterInfo(name=f"router-{id}", ssh=[f"127.0.0.1:{port}"], http=[])


class Recorded(ListeningAtRouters):
    """Says what it listens at instead of connecting."""

    def __init__(self, routers):
        super().__init__(None, routers, None, None)
        self.at = []
        self.news = asyncio.Event()

    async def _keep(self, router):
        self.at.append(router)
        self.news.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.at.remove(router)
            self.news.set()

    async def until(self, *routers):
        async with asyncio.timeout(5):
            while sorted(one.name + one.ssh[0] for one in self.at) != sorted(
                one.name + one.ssh[0] for one in routers
            ):
                self.news.clear()
                await self.news.wait()


async def test_routers_come_go_and_move_while_known_ones_stay_connected():
    listening = Recorded([router("a"), router("b")])
    running = asyncio.create_task(listening.run())
    await listening.until(router("a"), router("b"))
    kept = listening.at[0]
    listening.set_routers([router("a"), router("c")])
    await listening.until(router("a"), router("c"))
    assert listening.at[0] is kept
    listening.set_routers([router("a"), router("c", 8122)])
    await listening.until(router("a"), router("c", 8122))
    assert listening.at[0] is kept
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert listening.at == []
