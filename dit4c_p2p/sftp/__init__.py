"""SFTP version 3 as plain objects: what the file server and the storage helper share.

Nothing here does I/O: bytes go in, typed packets come out, and the other way round.

    wire.py        the primitive types, and records put together of them
    constants.py   numbers of the protocol, and the limits of both ends
    framer.py      a channel's bytes → whole packets, with their length checked first
    attrs.py       the ATTRS structure
    packets.py     every request and response of version 3
    openssh.py     OpenSSH's extensions
    extensions.py  our private extensions: hello and leases (docs/protocol.md)
    operations.py  … what a compound can do, and what comes back
    compound.py    … and how compounds stand in a packet

Source: draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL file, sections 4.1 to 4.10.
"""
