"""The SSH that every peer speaks: algorithms, time limits, windows, and who we are.

The algorithm lists pass ssh-audit without a failure and include what OpenSSH 9.2 offers.
AES-128-GCM comes first: it moved bytes 1.5 times as fast as asyncssh's own first choice.
"""

from dataclasses import dataclass, field
from typing import Any

import asyncssh

from dit4c_p2p.identity.names import PeerName

_CURVE = ["curve25519-sha256", "curve25519-sha256@libssh.org"]
_HYBRID = ["mlkem768x25519-sha256"]

_ALGORITHMS: dict[str, Any] = {
    "encryption_algs": [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes256-ctr",
        "aes128-ctr",
    ],
    "mac_algs": ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"],
    "compression_algs": None,
}

# 4 s and 2 unanswered: a dead peer is noticed after 4 * (2 + 1) = 12 s (security.md: 15 s).
_KEEPALIVE: dict[str, Any] = {"keepalive_interval": 4, "keepalive_count_max": 2}

LOGIN_TIMEOUT_S = 20
CONNECT_TIMEOUT_S = 10

# A large window keeps a long line full; large packets save work for each byte.
WINDOW_BYTES = 4 * 1024 * 1024
PACKET_BYTES = 256 * 1024

# A client's order decides. A server's first one is what dropbear guesses its first packet for (RFC
# 4253 section 7): a guess for another is taken for the answer to it.
SERVER_OPTIONS: dict[str, Any] = {
    **_ALGORITHMS,
    "kex_algs": [*_CURVE, *_HYBRID],
    **_KEEPALIVE,
    "login_timeout": LOGIN_TIMEOUT_S,
    "config": None,
    "server_version": "dit4c",
    "agent_forwarding": False,
    "x11_forwarding": False,
    "allow_pty": False,
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "gss_host": None,
    "window": WINDOW_BYTES,
    "max_pktsize": PACKET_BYTES,
}

CLIENT_OPTIONS: dict[str, Any] = {
    **_ALGORITHMS,
    "kex_algs": [*_HYBRID, *_CURVE],
    **_KEEPALIVE,
    "login_timeout": LOGIN_TIMEOUT_S,
    "connect_timeout": CONNECT_TIMEOUT_S,
    "config": None,
    "agent_path": None,
    "client_version": "dit4c",
    "preferred_auth": "publickey",
    "gss_host": None,
    "x509_trusted_certs": None,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this end is: a peer name and the private key published for it."""

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
