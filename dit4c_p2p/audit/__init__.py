"""The audit log: who did what, from where, with which key, and with what outcome.

Each act is one appended line of JSON that carries the SHA-256 of the line before it. A changed,
removed or inserted line is therefore detected by anyone who keeps a copy of a later line: ship the
file, or its newest hash, to another machine.

    {"n": 2, "at": "2026-11-23T10:00:00.123Z", "who": "admin", "key": "", "from": "127.0.0.1",
     "what": "key.revoke", "about": "node-home", "outcome": "done", "previous": "9f86d0…"}

``previous`` of the first line is 64 zeros. A chain goes on from file to file: a file that follows
another begins with ``rotate_audit_log``. Nothing secret is written: no token, key or content.
"""

from dit4c_p2p.audit.line import AuditBroken, Place
from dit4c_p2p.audit.log import AuditLog
from dit4c_p2p.audit.recent import recent_audit_lines
from dit4c_p2p.audit.rotate import rotate_audit_log
from dit4c_p2p.audit.verify import AuditVerdict, verify

__all__ = [
    "AuditBroken",
    "AuditLog",
    "AuditVerdict",
    "Place",
    "recent_audit_lines",
    "rotate_audit_log",
    "verify",
]
