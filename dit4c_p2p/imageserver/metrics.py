"""An image server's figures."""

from prometheus_client import Counter, Gauge, Histogram

from dit4c_p2p.observe.metrics import REQUEST_BUCKETS, Metrics


class ImageServerMetrics(Metrics):
    """See ``docs/observability.md`` for each."""

    def __init__(self) -> None:
        super().__init__("imageserver")
        to = self.registry
        self.requests = Counter(
            "dit4c_http_requests",
            "Requests answered, by the pattern of their path.",
            ["method", "route", "status"],
            registry=to,
        )
        self.request_seconds = Histogram(
            "dit4c_image_access_seconds",
            "From a request to the portal's permission.",
            buckets=REQUEST_BUCKETS,
            registry=to,
        )
        moved = Counter(
            "dit4c_image_bytes", "Bytes of layers and chunks.", ["direction"], registry=to
        )
        self.received = moved.labels("received").inc
        self.sent = moved.labels("sent").inc
        self.refused = Counter(
            "dit4c_image_refused", "Requests that the portal refused.", ["reason"], registry=to
        )
        self.connections = Gauge("dit4c_connections", "Clients connected.", registry=to)
        self.kept = Gauge(
            "dit4c_image_kept", "Blobs, manifests, chunks, uploads.", ["what"], registry=to
        )
        self.kept_bytes = Gauge(
            "dit4c_image_kept_bytes", "Bytes on disk: blobs as files, and packs.", ["what"],
            registry=to,
        )  # fmt: skip
        self.free_bytes = Gauge("dit4c_image_free_bytes", "Free on the disk.", registry=to)
        self.collected = Counter(
            "dit4c_image_collected", "What nobody needed, removed.", ["what"], registry=to
        )
