#!/usr/bin/python3
"""A name server (RFC 1035) for a test's machines: ``name_server.py ADDRESS ZONE-FILE``.

The zone has lines such as ``*.example.net. A 198.51.100.20``. Other types of a name that is there
have no records; other names don't exist.
"""

import ipaddress
import socket
import struct
import sys
from pathlib import Path

_A, _IN, _TTL_S = 1, 1, 60
_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583


def read_zone(text):
    """``{name: address}``, without last dots."""
    rows = (line.split() for line in text.splitlines() if line.strip())
    return {row[0].rstrip(".").lower(): ipaddress.IPv4Address(row[2]) for row in rows}


def answer(query, zone):
    """To one query with one question."""
    labels, place = [], 12
    while length := query[place]:
        labels.append(query[place + 1 : place + 1 + length].decode("ascii").lower())
        place += 1 + length
    question = query[12 : place + 5]
    kind = struct.unpack("!H", query[place + 1 : place + 3])[0]
    address = zone.get(".".join(labels)) or zone.get(".".join(["*", *labels[1:]]))
    flags = _ANSWER if address else _NO_SUCH_NAME
    records = b""
    if address and kind == _A:
        records = struct.pack("!HHHIH", 0xC00C, _A, _IN, _TTL_S, 4) + address.packed
    return query[:2] + struct.pack("!5H", flags, 1, bool(records), 0, 0) + question + records


def serve(address, zone):
    """For ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        while True:
            query, asking = server.recvfrom(512)
            server.sendto(answer(query, zone), asking)


if __name__ == "__main__":
    serve(sys.argv[1], read_zone(Path(sys.argv[2]).read_text()))
