"""What a node says of the memory of its apps reaches the portal."""

from dit4c_p2p.messages.link import MemoryUse
from dit4c_p2p.messages.node import PodMemory


async def test_what_apps_use_of_memory_is_passed_on_and_told_to_a_new_line(world):
    portal = world.portal
    async with world.scheduler():
        await portal.until(lambda: portal.cluster and portal.cluster.nodes_up == ["node-home"])
        await portal.until(lambda: world.node._followers)
        world.node.tell_memory(PodMemory(used={"abc": 5}, limit=10))
        told = MemoryUse(node="node-home", used={"abc": 5}, limit=10)
        await portal.until(lambda: portal.memory == {"node-home": told})
        portal.memory.clear()
        await portal.cut()
        await portal.until(lambda: portal.memory == {"node-home": told})
        world.node.tell_memory(PodMemory(used={f"i{n}": 5 for n in range(1001)}, limit=10))
        world.node.tell_memory(PodMemory(used={}, limit=10))
        await portal.until(lambda: portal.memory["node-home"].used == {})
