"""What each request claims while it runs; see ``ordering.py``.

A handle is claimed by its name: reads share ranges, writes claim theirs alone, everything else
claims the whole file. Requests that change names run one after the other within a session, and not
beside those that look names up. Ordered compounds follow one another.
"""

from collections.abc import Iterator

from dit4c_p2p.fileserver.ordering import Claim
from dit4c_p2p.sftp import openssh, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import Compound, CompoundFlag, Operation
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.packets import Request
from dit4c_p2p.sftp.wire import MalformedPacket, Reader, decode_record

_NAMES = "names"
_ORDERED = "ordered compounds"
_CHANGING = OpenFlag.CREAT | OpenFlag.TRUNC

_LOOKING = (
    packets.Lstat, packets.Stat, packets.Opendir, packets.Readlink, packets.Realpath,
)  # fmt: skip


def claims_of(request: Request) -> tuple[Claim, ...]:
    """The claims of a request of SFTP version 3 or of OpenSSH's extensions."""
    match request:
        case packets.Read(handle, offset, length):
            return (Claim(handle, True, offset, offset + length),)
        case packets.Write(handle, offset, data):
            return (Claim(handle, False, offset, offset + len(data)),)
        case packets.Close(handle) | packets.Fstat(handle) | packets.Readdir(handle):
            return (Claim(handle, False),)
        case packets.Fsetstat(handle, _):
            return (Claim(handle, False),)
        case packets.Open(_, flags, _):
            return (Claim(_NAMES, shared=not flags & _CHANGING),)
        case packets.Extended(name, data):
            return _extension_claims(name, data)
    return (Claim(_NAMES, shared=isinstance(request, _LOOKING)),)


def _extension_claims(name: bytes, data: bytes) -> tuple[Claim, ...]:
    try:
        if name in (openssh.FSYNC, openssh.FSTATVFS):
            return (Claim(decode_record(Reader(data), openssh.OneHandle).handle, False),)
        if name == openssh.COPY_DATA:
            copy = decode_record(Reader(data), openssh.CopyData)
            return tuple(Claim(one, False) for one in {copy.source, copy.target})
    except MalformedPacket:
        return ()  # it fails when it is run
    shared = name in (openssh.STATVFS, openssh.LIMITS, openssh.EXPAND_PATH)
    return (Claim(_NAMES, shared),)


def compound_claims(compound: Compound) -> tuple[Claim, ...]:
    """The claims of a compound: its ordered place, and the handles that it names."""
    claims: dict[bytes, Claim] = {}
    for operation in compound.operations:
        for claim in _operation_claims(operation):
            before = claims.get(claim.key)  # type: ignore[call-overload]
            # Two claims of one handle make a claim of the whole.
            claims[claim.key] = claim if before is None else Claim(claim.key, False)  # type: ignore[index]
    found = tuple(claims.values())
    if compound.flags & CompoundFlag.ORDERED:
        found += (Claim(_ORDERED, False),)
    return found


def _operation_claims(operation: Operation) -> Iterator[Claim]:
    handle: bytes = getattr(operation, "handle", b"")
    if not handle:
        return
    match operation:
        case ops.ReadData(offset, length, _):
            yield Claim(handle, True, offset, offset + length)
        case ops.WriteData(offset, data, _):
            yield Claim(handle, False, offset, offset + len(data))
        case _:
            yield Claim(handle, False)


def returns_leases(compound: Compound) -> bool:
    """Whether it gives leases back, and so runs after every earlier request."""
    return any(isinstance(operation, ops.ReturnLease) for operation in compound.operations)
