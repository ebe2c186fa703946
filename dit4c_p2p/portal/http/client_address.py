"""The client's address, from the connection and from trusted proxies."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from dit4c_p2p.net.https_redirect import host_of_authority
from dit4c_p2p.net.listener import ConnectionSlot
from dit4c_p2p.portal.audit import set_request_origin
from dit4c_p2p.portal.context import services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def resolve_client_address(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set ``request.remote`` to the client's address; redirect plain HTTP at a proxy to HTTPS."""
    place: ConnectionSlot | None = getattr(request.protocol, "place", None)
    if place is None:
        set_request_origin(request.remote)
        return await handler(request)
    config = services(request).config
    origin = config.proxies.origin(
        place.peer, place.address[0], lambda name: request.headers.getall(name, ())
    )
    if origin.plain_http and config.url.startswith("https:"):
        return _redirect_to_https(request, config.url)
    set_request_origin(origin.address, proved=place.prove)
    place.busy(True)
    try:
        return await handler(request.clone(remote=origin.address))
    finally:
        place.busy(False)


def _redirect_to_https(request: web.Request, url: str) -> web.Response:
    path = request.raw_path
    if host_of_authority(request.headers.get("Host", "")) != URL(url).host or not path.startswith(
        "/"
    ):
        return web.Response(status=421, text="This is not the portal of that host.\n")
    return web.Response(status=308, headers={"Location": url + path})
