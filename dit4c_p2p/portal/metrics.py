"""Metrics of a portal, and the duration of its requests."""

import time

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter, Gauge, Histogram, Info

from dit4c_p2p.observe.metrics import REQUEST_BUCKETS, Metrics

_METHODS = frozenset(hdrs.METH_ALL)


class PortalMetrics(Metrics):
    """See ``docs/observability.md`` for each."""

    def __init__(self) -> None:
        super().__init__("portal")
        to = self.registry
        self.requests = Counter(
            "dit4c_http_requests",
            "Requests answered, by the pattern of their path.",
            ["method", "route", "status"],
            registry=to,
        )
        self.request_seconds = Histogram(
            "dit4c_http_request_seconds",
            "From a request's head to the end of its answer, streams left out.",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=to,
        )
        self.logins = Counter("dit4c_login", "Logins by a link.", ["outcome"], registry=to)
        self.acts = Counter(
            "dit4c_audit_acts", "What the audit log is about.", ["what", "outcome"], registry=to
        )
        self.lost_lines = Gauge(
            "dit4c_audit_lost_lines", "Acts without a line in the audit log.", registry=to
        )
        self.audit_lines = Gauge(
            "dit4c_audit_lines", "Lines of the audit log, older files included.", registry=to
        )
        self.audit_shortened = Gauge(
            "dit4c_audit_shortened",
            "How often the audit log was found to have lost lines since the start.",
            registry=to,
        )
        self.audit_newest = Info(
            "dit4c_audit_newest",
            "The hash of the audit log's newest line, to be kept elsewhere.",
            registry=to,
        )
        self.instances = Gauge(
            "dit4c_instances", "Instances that are not discarded.", ["state"], registry=to
        )
        self.outbox = Gauge(
            "dit4c_outbox_messages", "Orders that no scheduler has confirmed yet.", registry=to
        )
        self.links = Gauge("dit4c_scheduler_links", "Schedulers that are connected.", registry=to)
        self.connections = Gauge("dit4c_connections", "Visitors connected.", registry=to)

    def told(self, what: str, done: bool) -> None:
        """Count an act; called by the audit log."""
        outcome = "done" if done else "refused"
        self.acts.labels(what, outcome).inc()
        if what == "login":
            self.logins.labels(outcome).inc()

    def counting(self) -> Middleware:
        """Return the middleware that counts requests, to be the outermost."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.monotonic()
            status, is_stream = 500, False
            try:
                response = await handler(request)
                status = response.status
                is_stream = _is_stream_response(response)
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                # Methods and paths are a stranger's choice: only known ones become labels.
                resource = request.match_info.route.resource
                route = resource.canonical if resource else "unmatched"
                method = request.method if request.method in _METHODS else "other"
                self.requests.labels(method, route, status).inc()
                if not is_stream:
                    self.request_seconds.labels(route).observe(time.monotonic() - began)
            return response

        return count


def _is_stream_response(response: web.StreamResponse) -> bool:
    return isinstance(response, web.WebSocketResponse) or (
        response.content_type == "text/event-stream"
    )
