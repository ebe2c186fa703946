"""A file server's figures."""

import threading
from collections import Counter as Counts

from prometheus_client import Counter, Gauge

from dit4c_p2p.observe.metrics import PeerMetrics


class FileServerMetrics(PeerMetrics):
    """See ``docs/observability.md`` for each."""

    def __init__(self) -> None:
        super().__init__("fileserver")
        to = self.registry
        self.grant_events_heard = Gauge(
            "dit4c_grant_events_heard",
            "1 while changes of grants are heard of as they happen, else 0.",
            registry=to,
        )
        self.connections = Gauge(
            "dit4c_ssh_connections", "SSH connections, those before login included.", registry=to
        )
        self.sessions = Gauge("dit4c_sftp_sessions", "SFTP sessions.", registry=to)
        self.handles = Gauge("dit4c_sftp_handles", "Open files and directories.", registry=to)
        self.leases = Gauge("dit4c_leases", "Leases that sessions hold.", registry=to)
        self.notices = Counter(
            "dit4c_lease_notices", "Leases that were recalled or broken.", ["kind"], registry=to
        )
        self.refused = Counter(
            "dit4c_ssh_refused", "What peers were refused.", ["reason"], registry=to
        )
        self._moved = Counter(
            "dit4c_file_bytes", "Bytes that clients read and wrote.", ["direction"], registry=to
        )
        self.disk_free = Gauge(
            "dit4c_disk_free_bytes", "Room on the disk that the files are on.", registry=to
        )
        # Counted by worker threads, and handed over when somebody looks: a labelled counter costs
        # more than a small read.
        self._bytes: Counts[str] = Counts()
        self._lock = threading.Lock()

    def read_bytes(self, count: int) -> None:
        """So much was read."""
        with self._lock:
            self._bytes["read"] += count

    def written_bytes(self, count: int) -> None:
        """So much was written."""
        with self._lock:
            self._bytes["written"] += count

    def hand_over(self) -> None:
        """Put what was counted into the figures."""
        with self._lock:
            counted, self._bytes = self._bytes, Counts()
        for direction, count in counted.items():
            self._moved.labels(direction).inc(count)
