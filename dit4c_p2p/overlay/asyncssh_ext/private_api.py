"""The list of asyncssh's private names that this package uses, with the reason for each.

asyncssh promises nothing about them. Its release is therefore pinned to the tested one
(``pyproject.toml``, ``helpers/pod/runtime/requirements.txt``), and each name is checked at import.
:mod:`~dit4c_p2p.overlay.asyncssh_ext.backpressure` can't do without its names, because it protects;
:mod:`~dit4c_p2p.overlay.asyncssh_ext.fastpath` falls back to asyncssh's own path.
"""

from collections.abc import Mapping

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption

Names = Mapping[type, Mapping[str, str]]

GUARD: Names = {
    SSHConnection: {
        "_transport": "whether the connection stands; how much waits in its socket's buffer",
        "_channels": "its channels, to stop, to let go on, and to count",
        "_kex_complete": "whether packets of channels are sent, or kept until the keys are there",
        "_deferred_packets": "how many are kept",
        "_send_kexinit": "the moment from when they are kept",
        "_send_deferred_packets": "the moment from when they are sent again",
    },
    SSHChannel: {
        "_session": "who is to be told to stop writing and to go on",
        "_send_state": "whether anything more may be written",
        "_send_paused": "whether the session has been told to stop",
        "_send_buf": "what was written and is not sent yet",
        "_recv_chan": "its number, as in the connection's channels",
        "_flush_send_buf": "sends what may be sent; overridden",
        "_pause_resume_writing": "tells the session to stop or to go on; overridden",
        "_process_eof": "called for CHANNEL_EOF; overridden",
        "_packet_handlers": "by which it is called",
    },
}

QUICK: Names = {
    SSHConnection: {
        "_transport": "where bytes go and come from; None after a cut",
        "_channels": "the channel that a packet is for",
        "_send": "every packet that asyncssh sends; replaced, to keep the order",
        "_send_encryption": "the cipher of this moment",
        "_send_seq": "counted by every packet; MACs of other ciphers depend on it",
        "_compressor": "must be none",
        "_kex_complete": "packets of channels have to wait for it",
        "_rekey_bytes": "when to exchange keys anew",
        "_rekey_bytes_sent": "counted by every packet",
        "_rekey_seconds": "when to exchange keys anew",
        "_rekey_time": "when to exchange keys anew",
        "_recv_encryption": "the cipher of this moment",
        "_recv_seq": "as _send_seq",
        "_recv_handler": "whether asyncssh is between two packets",
        "_recv_pkthdr": "what _recv_handler is then",
        "_inpbuf": "what asyncssh has not taken yet; must be empty",
        "_max_recv_pktlen": "the longest packet that is allowed",
        "_decompressor": "must be none",
        "_reset_keepalive_timer": "the peer has been heard",
        "_force_close": "the end that asyncssh gives to a breach of the protocol",
    },
    SSHChannel: {
        "_send_state": "whether it may be written to",
        "_send_chan": "the far end's number",
        "_send_window": "counted down by what is sent",
        "_send_pktsize": "the longest piece that the far end takes",
        "_send_buf": "what has to be sent first",
        "_recv_state": "whether data may come",
        "_recv_window": "whether so much may come",
        "_accept_data": "takes what has come, counts and delivers it",
    },
    GCMEncryption: {"_cipher": "holds key and nonce"},
    GCMCipher: {
        "_key": "of AES-GCM",
        "_iv": "the next packet's nonce",
        "_update_iv": "to the packet after that",
    },
}

# Their meaning was looked at in these releases; their presence alone says little.
_LOOKED_AT = "2.24."


def missing_private_names(names: Names) -> list[str]:
    """Return those of ``names`` that the installed asyncssh lacks."""
    return [
        f"{owner.__name__}.{name}"
        for owner, reasons in names.items()
        for name in reasons
        if not hasattr(owner, name) and name not in vars(owner)["__init__"].__code__.co_names
    ]


def unsupported_reason(names: Names) -> str:
    """Return why ``names`` must not be used with the installed asyncssh; empty if they may be."""
    if lacking := missing_private_names(names):
        return f"asyncssh {asyncssh.__version__} has no {', '.join(lacking)}"
    if not asyncssh.__version__.startswith(_LOOKED_AT):
        return f"asyncssh {asyncssh.__version__} is not one of {_LOOKED_AT}x"
    return ""
