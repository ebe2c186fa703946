"""Every decoder of what a peer may send: records, key documents, tokens' heads, names.

scripts/fuzz messages [--seconds N]

Whatever comes, only the declared errors are raised; what is decoded encodes to what decodes equal.
"""

import base64
import json

import atheris

with atheris.instrument_imports(include=["dit4c_p2p.messages", "dit4c_p2p.identity"]):
    from dit4c_p2p.identity import documents, tokens
    from dit4c_p2p.identity.errors import InvalidDocument, InvalidName, InvalidToken
    from dit4c_p2p.identity.keys import generate, public_line
    from dit4c_p2p.identity.names import Kind, PeerName
    from dit4c_p2p.messages import enrol, helper, link, node, pod, public, registry, router
    from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
    from dit4c_p2p.messages.instances import State

from support.fuzzing import run

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
DOCUMENT = documents.KeyDocument(
    name=NAME, serial=1, change=1, issued=NOW, expires=NOW + 3600, keys=(KEY,), scheduler="main"
)


def part(content):
    """A part of a token."""
    return base64.urlsafe_b64encode(content).rstrip(b"=")


SEEDS = [
    *map(encode, RECORDS),
    documents.compose(DOCUMENT),
    documents.compose(DOCUMENT).partition(b"\n")[0] + b"\n",
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
]


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
        document = documents.parse(data, NAME, NOW)
    except InvalidDocument:
        return
    again = documents.parse(documents.compose(document), NAME, NOW)
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


def target(data):
    """All of the decoders, on the same bytes, and a token of any two JSON texts."""
    check_records(data)
    check_document(data)
    text = data.decode("utf-8", "surrogateescape")
    check_token(text)
    check_name(text)
    check_token(b".".join((part(b'{"kid":"a","alg":"ES256"}'), part(data), b"s")).decode())
    check_token(b".".join((part(data), part(json.dumps({"iss": text}).encode()), b"s")).decode())


if __name__ == "__main__":
    run(target, SEEDS, "scripts/fuzz messages")
