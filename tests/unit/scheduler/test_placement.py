"""Which node an instance goes to."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dit4c_p2p.messages.node import NodeDescription
from dit4c_p2p.scheduler.placement import PlaceOnNode, WaitForPlace, choose_node


def node(name: str, pods: int, max_pods: int) -> NodeDescription:
    return NodeDescription(
        name=name, version="1", cpus=1, memory_bytes=1, pods=pods, max_pods=max_pods
    )


def described(**nodes: tuple[int, int]) -> dict[str, NodeDescription]:
    return {name: node(name, *numbers) for name, numbers in nodes.items()}


def test_the_node_with_the_fewest_pods_for_its_size():
    nodes = described(small=(1, 2), big=(4, 10))
    assert choose_node(nodes, nodes, {}) == PlaceOnNode("big")
    assert choose_node(nodes, nodes, {"big": 6}) == PlaceOnNode("small")


def test_the_same_choice_among_equals():
    nodes = described(b=(0, 4), a=(0, 4))
    assert choose_node(nodes, nodes, {}) == PlaceOnNode("a")


def test_what_its_user_reads_while_there_is_no_place():
    assert choose_node([], {}, {}) == WaitForPlace(
        "Waiting for a machine: none belongs to this cluster yet"
    )
    assert choose_node(["a"], {}, {}) == WaitForPlace(
        "Waiting for a machine: none answers at the moment"
    )
    full = described(a=(2, 2), b=(0, 0))
    assert choose_node(full, full, {}) == WaitForPlace("Waiting for a machine: all are full")
    assert choose_node(["a", "b", "c"], full, {}) == WaitForPlace(
        "Waiting for a machine: all are full, and 1 does not answer"
    )


def test_a_paused_node_gets_nothing():
    nodes = described(a=(0, 4), b=(3, 4))
    nodes["a"] = replace(nodes["a"], paused=True)
    assert choose_node(nodes, nodes, {}) == PlaceOnNode("b")
    assert choose_node(nodes, nodes, {"b": 4}) == WaitForPlace(
        "Waiting for a machine: all are full or paused"
    )
    alone = {"a": nodes["a"]}
    assert choose_node(alone, alone, {}) == WaitForPlace(
        "Waiting for a machine: their owners have paused all"
    )


def test_the_node_that_was_chosen_or_none():
    nodes = described(**{"node-a": (0, 4), "node-b": (4, 4), "node-c": (0, 4)})
    nodes["node-c"] = replace(nodes["node-c"], paused=True)
    known = [*nodes, "node-d"]
    assert choose_node(known, nodes, {}, wanted="node-a") == PlaceOnNode("node-a")
    for wanted, why in (
        ("node-b", "it is full"),
        ("node-c", "its owner has paused it"),
        ("node-d", "it does not answer at the moment"),
        ("node-e", "it does not belong to this cluster any more"),
    ):
        assert choose_node(known, nodes, {}, wanted=wanted) == WaitForPlace(
            f"Waiting for the machine {wanted[5:]}, which you chose: {why}"
        )


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6
    ),
    st.integers(0, 40),
)
def test_no_node_gets_more_than_it_takes(numbers, wanted):
    nodes = described(**numbers)
    placed: dict[str, int] = {}
    for _ in range(wanted):
        match choose_node(nodes, nodes, placed):
            case PlaceOnNode(name):
                placed[name] = max(placed.get(name, 0), nodes[name].pods) + 1
                assert placed[name] <= nodes[name].max_pods
            case WaitForPlace(info):
                assert info.startswith("Waiting for a machine")
                assert all(
                    max(node.pods, placed.get(name, 0)) >= node.max_pods
                    for name, node in nodes.items()
                )
