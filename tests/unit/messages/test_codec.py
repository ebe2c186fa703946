"""Records as JSON: what is not one is refused with the one error that says so."""

import pytest

from dit4c_p2p.messages.codec import MAX_MESSAGE_BYTES, InvalidMessage, decode, encode
from dit4c_p2p.messages.node import NodeRequest, PodLogs
from dit4c_p2p.oci.digests import Digest

LOGS = PodLogs(instance="abc", lines=5)


def test_a_kind_of_text_is_text():
    assert encode(["a", Digest.of(b"")]) == encode(["a", str(Digest.of(b""))])
    with pytest.raises(NotImplementedError):
        encode([object()])


def test_a_record_comes_back():
    assert decode(encode(LOGS), NodeRequest) == LOGS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        encode(LOGS)[:-1],
        encode(LOGS) + b"x",
        encode(LOGS).replace(b"5", b'"5"'),
        encode(LOGS).replace(b"pod-logs", b"another"),
        encode(LOGS).replace(b"lines", b"rows"),
        b'{"type":{"type":"pod-logs"}}',
        b'{"x":' + b"[" * 60_000,  # found by scripts/fuzz messages
        b" " * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_what_is_no_record_is_refused(data):
    with pytest.raises(InvalidMessage):
        decode(data, NodeRequest)
