"""What a reference means now is asked of the nodes that are up, one after the other."""

from fakes.node import FakeNode, memory_dialler

from dit4c_p2p.messages.link import CheckImage, ImageChecked
from dit4c_p2p.messages.node import Failure, ResolveImage

UNKNOWN = Failure(code="unknown_image", text="The registry has no image of this name")
OLD = Failure(code="unknown_kind", text="what is this")


async def checked(portal, request, reference="tool:1"):
    await portal.order(CheckImage(request=request, reference=reference))
    await portal.until(lambda: request in portal.images or "" in portal.images)
    return portal.images.pop(request, None) or portal.images.pop("")


async def test_the_first_node_that_can_have_it_answers(world):
    portal, home, other = world.portal, world.node, FakeNode("node-other")
    world.nodes.append(other)
    world.dialler = memory_dialler(*world.nodes)
    async with world.scheduler():
        await portal.until(lambda: portal.cluster and len(portal.cluster.nodes_up) == 2)
        found = ImageChecked(request="a", image=f"tool@sha256:{'5' * 64}")
        assert await checked(portal, "a") == found
        assert home.asked[-1] == ResolveImage(reference="tool:1")
        home.fail["ResolveImage"] = [UNKNOWN]
        assert (await checked(portal, "b")).image == found.image
        assert other.asked[-1] == ResolveImage(reference="tool:1")
        home.fail["ResolveImage"], other.fail["ResolveImage"] = [UNKNOWN], [UNKNOWN]
        assert (await checked(portal, "c")).error == f"node-other: {UNKNOWN.text}"
        home.fail["ResolveImage"], other.fail["ResolveImage"] = [OLD], [OLD]
        assert "of an older release" in (await checked(portal, "d")).error
        assert (await checked(portal, "e", "t" * 401)).error == "this can't be asked for"


async def test_without_a_node_the_answer_says_so(world):
    world.node.online = False
    async with world.scheduler():
        await world.portal.until(lambda: world.portal.cluster is not None)
        said = await checked(world.portal, "a")
        assert said.error == "no machine is reached at the moment"
