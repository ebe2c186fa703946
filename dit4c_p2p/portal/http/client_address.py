"""The client's address, from the connection and from trusted proxies."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from dit4c_p2p.net.https_redirect import host_of
from dit4c_p2p.net.listener import ConnectionSlot
from dit4c_p2p.portal.audit import set_request_origin
from dit4c_p2p.portal.context import services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def resolve_client_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have ``request.remote`` say the visitor's address, and lead plain HTTP at a proxy to HTTPS.

    ``X-Forwarded-For`` and ``X-Forwarded-Proto`` count from the addresses that the admin has named
    and from nobody else. From a proxy that speaks the PROXY protocol they don't: it passes on what
    visitors say as it is.
    """
    place: ConnectionSlot | None = getattr(request.protocol, "place", None)
    if place is None:
        set_request_origin(request.remote)
        return await handler(request)
    config = services(request).config
    proxies, address = config.proxies, place.address[0]
    if not proxies.proxy_protocol and proxies.trusts(place.peer):
        address = proxies.visitor(place.peer, request.headers.getall("X-Forwarded-For", []))
        proto = request.headers.getall("X-Forwarded-Proto", [])
        if proto == ["http"] and config.url.startswith("https:"):
            return _to_https(request, config.url)
    set_request_origin(address, proved=place.prove)
    place.busy(True)
    try:
        return await handler(request.clone(remote=address))
    finally:
        place.busy(False)


def _to_https(request: web.Request, url: str) -> web.Response:
    path = request.raw_path
    if host_of(request.headers.get("Host", "")) != URL(url).host or not path.startswith("/"):
        return web.Response(status=421, text="This is not the portal of that host.\n")
    return web.Response(status=308, headers={"Location": url + path})
