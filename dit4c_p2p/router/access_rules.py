"""All rules on who may listen for what and who may reach whom, as functions without I/O.

Targets are names, never addresses, and the kind of peer fixes the port. A peer that is not in
:data:`_REACHES` reaches nobody.
"""

from collections.abc import Callable, Mapping

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.ports import INSTANCE_HTTP_PORT, INSTANCE_NEWS_PORT, SSH_PORT
from dit4c_p2p.overlay.errors import Refused

LISTENS: Mapping[Kind, frozenset[int]] = {
    Kind.INSTANCE: frozenset({INSTANCE_HTTP_PORT, INSTANCE_NEWS_PORT, SSH_PORT}),
    Kind.NODE: frozenset({SSH_PORT}),
    Kind.FILESERVER: frozenset({SSH_PORT}),
}

# (caller's kind, target's kind) → (the only port, whether this caller may reach this target)
_Allowed = Callable[[PeerName, KeyDocument], bool]
_Rule = tuple[int, _Allowed]
_REACHES: Mapping[tuple[Kind, Kind], _Rule] = {
    (Kind.SCHEDULER, Kind.NODE): (SSH_PORT, lambda caller, node: node.scheduler == caller.id),
    # A file server asks the portal itself whom it shows what.
    (Kind.INSTANCE, Kind.FILESERVER): (SSH_PORT, lambda caller, server: True),
    (Kind.USER, Kind.FILESERVER): (SSH_PORT, lambda caller, server: True),
}

# Those who have something to do at a router.
SERVED = frozenset({*LISTENS, *(caller for caller, _ in _REACHES)})


def check_peer_served(name: PeerName, document: KeyDocument) -> None:
    """Check that a peer may log in; has the signature of ``overlay.server.Admit``.

    :raises Refused: a router does not serve this kind of peer.
    """
    if name.kind not in SERVED:
        raise Refused(f"a router does not serve a {name.kind}")


def check_peer_may_listen(peer: PeerName, host: str, port: int) -> None:
    """Check that ``peer`` may ask for ``tcpip-forward`` of (host, port).

    :raises Refused: not its own name, or not a port of its kind; the message says what to ask for.
    """
    ports = LISTENS.get(peer.kind, frozenset())
    if not ports:
        raise Refused(f"a {peer.kind} listens for nothing here")
    allowed = " or ".join(f"{peer}:{each}" for each in sorted(ports, reverse=True))
    if host != str(peer):
        raise Refused(f"{peer} may not listen for {host[:60]!r}", hint=f"ask for {allowed}")
    if port not in ports:
        raise Refused(f"{peer} may not listen for port {port}", hint=f"ask for {allowed}")


def parse_dial_target(host: str) -> PeerName:
    """Return the peer that a ``direct-tcpip`` names.

    :raises Refused: an address or another host's name; a router connects to peers only.
    """
    try:
        return PeerName.parse(host)
    except InvalidName:
        raise Refused(
            f"{host[:60]!r} is not the name of a peer", hint="a router never connects to addresses"
        ) from None


def check_peer_may_reach(
    caller: PeerName, target: PeerName, port: int, document: KeyDocument
) -> None:
    """Check that ``caller`` may open a stream to (target, port).

    :param document: the target's verified key document.
    :raises Refused: the table says no.
    """
    allowed = access_rule_for(caller, target, port)
    if document.name != target or not allowed(caller, document):
        raise Refused(f"{caller} may not reach {target}")


def access_rule_for(caller: PeerName, target: PeerName, port: int) -> _Allowed:
    """What is left to see once the target's document is there; most ask for none.

    :raises Refused: the table says no, whatever is published for the target.
    """
    rule = _REACHES.get((caller.kind, target.kind))
    if rule is None:
        raise Refused(f"a {caller.kind} may not reach a {target.kind}")
    only_port, allowed = rule
    if port != only_port:
        raise Refused(f"{target} is reached at port {only_port} only")
    return allowed
