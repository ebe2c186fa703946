"""An agent that is asked by the scheduler of the next release."""

import pytest
from systems.node import a_node
from systems.router import a_house

from dit4c_p2p.messages.node import NODE_SUBSYSTEM, Alive, NodeReply
from dit4c_p2p.overlay.rpc import call
from dit4c_p2p.router import Limits


@pytest.fixture
async def line(tmp_path):
    async with a_house(tmp_path, Limits()) as house, a_node(house) as node:
        yield await node.line()


async def ask(line, request):
    return [reply async for reply in call(line, NODE_SUBSYSTEM, request, NodeReply, silence_s=10)]


async def test_a_request_with_more_in_it_is_answered(line):
    (failure,) = await ask(line, {"type": "list-pods", "since": {"run": 3}})
    assert failure.code == "engine", "it was understood; there is no engine here"


async def test_a_request_of_a_new_kind_is_answered_and_the_line_stands(line):
    (failure,) = await ask(line, {"type": "freeze-pod", "instance": "abc"})
    assert failure.code == "unknown_kind"
    assert "'freeze-pod'" in failure.text
    assert "newer release" in failure.text
    async for reply in call(
        line, NODE_SUBSYSTEM, {"type": "follow-events"}, NodeReply, silence_s=10
    ):
        assert reply == Alive()
        break
    assert not line.is_closed()


async def test_a_message_without_a_required_field_is_refused(line):
    (failure,) = await ask(line, {"type": "stop-pod"})
    assert failure.code == "internal"
