"""``known_hosts`` for stock OpenSSH: every peer that runs an SSH server, by name and by address.

    # dit4c-known-hosts serial=9 change=7 issued=… expires=…
    router-main,[localhost]:8022 ssh-ed25519 AAAA…
    @revoked * ssh-ed25519 AAAA…

``ssh -o UserKnownHostsFile=FILE -p 8022 router`` finds a router by its address, and
``HostKeyAlias=router-main`` or ``ssh -J router node-home`` by its name (sshd(8), SSH_KNOWN_HOSTS).
"""

from collections.abc import Iterable, Mapping, Sequence

from yarl import URL

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.portal_client import is_loopback_host, split_address
from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.messages.public import FileServerInfo, RouterInfo
from dit4c_p2p.portal.models import SshKey

_SERVERS = (Kind.ROUTER, Kind.NODE, Kind.FILESERVER)


def compose_known_hosts(
    rows: Iterable[SshKey],
    addresses: Mapping[str, Sequence[str]],
    serial: int,
    change: int,
    issued: int,
    expires: int,
) -> bytes:
    """The file; revoked keys are refused whatever host shows them.

    :param addresses: ``host:port`` pairs by the name of the peer that listens there.
    """
    patterns = {name: _known_hosts_patterns(pairs) for name, pairs in addresses.items()}
    lines = [
        f"# dit4c-known-hosts serial={serial} change={change} issued={issued} expires={expires}"
    ]
    for row in rows:
        if PeerName.parse(row.name).kind not in _SERVERS:
            continue
        if row.revoked_at is None:
            hosts = ",".join([row.name, *patterns.get(row.name, [])])
            lines.append(f"{hosts} {row.line}")
        else:
            lines.append(f"@revoked * {row.line}")
    return ("\n".join(lines) + "\n").encode()


def ssh_addresses(
    routers: Iterable[RouterInfo], servers: Iterable[FileServerInfo]
) -> dict[str, list[str]]:
    """Where routers and file servers listen for SSH, for :func:`compose_known_hosts`."""
    addresses = {router.name: list(router.ssh) for router in routers}
    for server in servers:
        url = URL(server.url)
        addresses[server.name] = [f"{url.host}:{url.explicit_port or SSH_PORT}", *server.connect]
    return addresses


def _known_hosts_patterns(addresses: Iterable[str]) -> list[str]:
    """``host`` or ``[host]:port`` for each address; a loopback one as ``localhost`` too."""
    patterns: dict[str, None] = {}
    for address in addresses:
        host, port = split_address(address)
        for spelling in [host, "localhost"] if is_loopback_host(host) else [host]:
            patterns[spelling if port == SSH_PORT else f"[{spelling}]:{port}"] = None
    return list(patterns)
