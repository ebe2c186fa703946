"""Every decoder of what a peer may send: records, key documents and events, signatures, proofs,
tokens' heads, names, the portal's own answers, and cursors of its lists.

scripts/fuzz messages [--seconds N]

Whatever comes, only the declared errors are raised; what is decoded encodes to what decodes equal.
"""

import asyncio
import base64
import json

import aiohttp
import atheris
from aiohttp.base_protocol import BaseProtocol

with atheris.instrument_imports(
    include=[
        "dit4c_p2p.messages",
        "dit4c_p2p.identity",
        "dit4c_p2p.admin.key_proof",
        "dit4c_p2p.run.bootstrap",
        "dit4c_p2p.helpers.auth.oauth",
        "dit4c_p2p.portal.paging",
        "asyncssh.sshsig",
    ]
):
    from dit4c_p2p.admin import key_proof
    from dit4c_p2p.errors import ConfigError
    from dit4c_p2p.helpers.auth import oauth
    from dit4c_p2p.identity import key_documents, registry_client, sshsig, tokens
    from dit4c_p2p.identity.errors import (
        InvalidDocument,
        InvalidName,
        InvalidSignature,
        InvalidToken,
    )
    from dit4c_p2p.identity.installation import read_public_config
    from dit4c_p2p.identity.keys import generate, public_line
    from dit4c_p2p.identity.names import Kind, PeerName
    from dit4c_p2p.messages import enrol, helper, link, node, pod, public, registry, router
    from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
    from dit4c_p2p.messages.instances import State
    from dit4c_p2p.portal import paging
    from dit4c_p2p.portal.errors import BadRequest

from lib.fuzzing import run

KINDS = [
    node.NodeRequest,
    node.NodeReply,
    link.PortalFrame,
    link.SchedulerFrame,
    link.ToPortal,
    link.ToScheduler,
    pod.PodConfig,
    pod.HelperStatus,
    registry.SignedEvent,
    registry.KeyEvent | registry.Heartbeat,
    registry.KeyHolder,
    public.PublicConfig,
    helper.AnswersOn,
    router.PageState,
    enrol.NewKey,
]
NAME, NOW = PeerName(Kind.NODE, "home"), 1_790_000_000
KEY = generate()
PORTAL = public.PortalInfo(name="portal-main", url="http://localhost:8080", key=public_line(KEY))
ROUTER = public.RouterInfo(name="router-main", ssh=["[::1]:8022"], http=["127.0.0.1:8081"])
STATUS = node.PodStatus(instance="abc", state=node.PodState.EXITED, exit_code=137, reason="é\0")
RECORDS = [
    node.Describe(),
    node.StartPod(instance="abc", image="sha256:" + "0" * 64, key_nonce="n", run=2, kept=True),
    node.PodLogs(instance="abc", lines=2**63),
    node.Progress(info="Pulling: 1 of 2", fraction=0.1),
    node.PodList(pods=[STATUS]),
    node.PodEvent(instance="abc", status=None),
    node.NodeDescription(name="n", version="1", cpus=0.5, memory_bytes=1, pods=0, max_pods=9),
    node.Failure(code="disk_full", text="t", log_tail="l"),
    link.Challenge(nonce="n"),
    link.Hello(name="scheduler-main", nonce="n", signature="s"),
    link.Welcome(signature="s"),
    link.Ack(id="1"),
    link.ToSchedulerEnvelope(id="1", body=link.StopInstance(instance="abc", after=3)),
    link.ToPortalEnvelope(
        id="2",
        body=link.InstanceReport(instance="a", sequence=1, state=State.RUNNING, progress=1e308),
    ),
    link.ToPortalEnvelope(id="3", body=link.ClusterState(nodes_up=["node-a"], nodes_down=[])),
    pod.PodConfig(instance="a", url="u", app_port=80, portal=PORTAL, routers=[ROUTER]),
    pod.HelperStatus(helper="auth", state=pod.HelperState.FAILING, detail="d"),
    registry.SignedEvent(body="b", signature="s"),
    registry.KeyEvent(change=1, name="node-a", fingerprint="f", what="revoked", at=1),
    registry.Heartbeat(change=1, at=2),
    registry.KeyHolder(fingerprint="f", name="n", revoked=True, published_at=1, revoked_at=2),
    public.PublicConfig(portal=PORTAL, routers=[ROUTER], user_url="http://{id}.localhost/"),
    helper.AnswersOn(routers=["router-main"]),
    router.PageState(state="gone"),
    enrol.NewKey(kind="node", id="a", public_key="k", nonce="n", signature="s", scheduler="main"),
]
DOCUMENT = key_documents.KeyDocument(
    name=NAME, serial=1, change=1, issued=NOW, expires=NOW + 3600, keys=(KEY,), scheduler="main"
)


SIGNATURE = sshsig.sign(KEY, b"what is signed", "dit4c-fuzz")
PROOF = key_proof.signed_key_proof(KEY, NAME, PORTAL.url, "nonce", "main")


def part(content):
    """A part of a token."""
    return base64.urlsafe_b64encode(content).rstrip(b"=")


SEEDS = [
    *map(encode, RECORDS),
    key_documents.compose_key_document(DOCUMENT),
    key_documents.compose_key_document(DOCUMENT).partition(b"\n")[0] + b"\n",
    tokens.issue(KEY, NAME, "http://localhost:8080", now=NOW).encode(),
    b".".join(map(part, (b'{"alg":"none","kid":[1]}', b'{"iss":["node-a"]}', b"s"))),
    b"node-home",
    "node-é".encode(),
    b'{"type":"pod-logs","instance":"a","lines":99999999999999999999999}',
    b'{"type":"progress","info":"\\ud800","fraction":1e999}',
    b'{"type":"progress","info":"","fraction":-0.0}',
    b'{"x":' + b"[" * 60_000,
    b'{"a":' * 60_000,
    part(b'{"kid":"a"}') + b"." + part(b"[" * 5000) + b".s",
    part(b"[" * 5000) + b"." + part(b'{"iss":"node-a"}') + b".s",
    SIGNATURE.encode(),
    SIGNATURE.encode().replace(b"\n", b"\r\n"),
    key_proof.encode_key_proof(PROOF).encode(),
    b"data: {}\n\n: \n\nevent: x\ndata:\xff\r\n\ndata: cut",
    b"data: " + b"x" * 17_000 + b"\n\n",
    paging._encode_cursor(1.5, "abc").encode(),
    b'[1e400, "a"]',
    b'[1, "\\u0000"]',
    b'{"access_token": "t", "expires_in": 1e999, "error": ["x"]}',
    b"[" * 20_000,
]
# Reads nothing from outside; streams want one.
LOOP = asyncio.new_event_loop()


def check_records(data):
    """What decodes as a record encodes to what decodes as the same."""
    for kind in KINDS:
        try:
            record = decode(data, kind)
        except InvalidMessage:
            continue
        again = encode(record)
        assert b"\n" not in again, "two lines"
        assert decode(again, kind) == record, "encoded, it reads otherwise"


def check_document(data):
    """What parses composes to what parses the same."""
    try:
        document = key_documents.parse(data, NAME, NOW)
    except InvalidDocument:
        return
    again = key_documents.parse(key_documents.compose_key_document(document), NAME, NOW)
    assert again == document, "composed, it reads otherwise"


def check_token(text):
    """A head's issuer is a name."""
    try:
        head = tokens.read_head(text)
    except InvalidToken:
        return
    assert PeerName.parse(str(head.issuer)) == head.issuer, "not a name"


def check_name(text):
    """A name that is read is written as it was, and fits a DNS label."""
    try:
        name = PeerName.parse(text)
    except InvalidName:
        return
    assert str(name) == text, "written, it is another"
    assert len(text) <= 63 and text.isascii(), "no DNS label"


def check_signature(text):
    """What verifies does so for the one text and purpose."""

    def verifies(content, purpose):
        try:
            sshsig.verify(content, text, purpose, [KEY])
        except InvalidSignature:
            return False
        return True

    if verifies(b"what is signed", "dit4c-fuzz"):
        assert not verifies(b"something else", "dit4c-fuzz"), "it is good for anything"
        assert not verifies(b"what is signed", "dit4c-keys"), "it is good for any purpose"
    assert not verifies(b"", "dit4c-fuzz"), "nothing was signed"


def check_proof(text):
    """What is read is written as what reads the same."""
    try:
        said = key_proof.decode_key_proof(text, NAME, None)
    except ConfigError:
        return
    assert (
        key_proof.decode_key_proof(key_proof.encode_key_proof(said), NAME, said.scheduler) == said
    ), "written, it is another"


def check_public(data):
    """What is read is written as what reads the same, and its key is one."""
    try:
        said = read_public_config(data)
    except InvalidMessage:
        return
    assert read_public_config(encode(said)) == said, "written, it reads otherwise"


class Paused(BaseProtocol):
    """What has no transport can't be held up."""

    def pause_reading(self):
        pass

    def resume_reading(self, resume_parser=True):
        pass


async def events(pieces):
    """What a stream of events holds, up to where it is refused."""
    # Of a smaller size than the client's, so that lines are too long for it here as well.
    stream, found = aiohttp.StreamReader(Paused(LOOP), 2**12, loop=LOOP), []
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    try:
        async for event in registry_client._event_data(stream):
            found.append(event)
    except InvalidDocument:
        found.append(None)
    return found


def check_events(data):
    """The same however cut, each on one line."""
    whole = LOOP.run_until_complete(events([data]))
    step = 1 + len(data) // 7
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    assert LOOP.run_until_complete(events(pieces)) == whole, "cut, it reads otherwise"
    assert not any("\n" in event for event in whole if event), "two lines"


def check_answer(data):
    """An answer of the portal's is an object, whatever it is."""
    answer = oauth._json_of_oauth_body(data)
    assert isinstance(answer, dict)
    assert oauth._oauth_error_code(400, answer).isprintable(), "not to be shown"
    oauth._clock_is_off_for_oauth(answer)


def check_cursor(text):
    """What is read is written as what reads the same."""
    try:
        at, last = paging._decode_cursor(text)
    except BadRequest:
        return
    assert paging._decode_cursor(paging._encode_cursor(at, last)) == (at, last), (
        "written, it is another"
    )


def target(data):
    """All of the decoders, on the same bytes, and in the envelopes that some of them have."""
    check_records(data)
    check_document(data)
    check_public(data)
    check_events(data)
    check_answer(data)
    text = data.decode("utf-8", "surrogateescape")
    check_token(text)
    check_name(text)
    check_signature(text)
    check_proof(text)
    check_cursor(text)
    check_token(b".".join((part(b'{"kid":"a","alg":"ES256"}'), part(data), b"s")).decode())
    check_token(b".".join((part(data), part(json.dumps({"iss": text}).encode()), b"s")).decode())
    wrapped = base64.urlsafe_b64encode(data).decode()
    check_proof("dit4c-proof:" + wrapped)
    check_cursor(wrapped.rstrip("="))
    check_signature(f"-----BEGIN SSH SIGNATURE-----\n{wrapped}\n-----END SSH SIGNATURE-----\n")


if __name__ == "__main__":
    run(target, SEEDS, "scripts/fuzz messages")
