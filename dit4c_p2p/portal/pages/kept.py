"""``/instances/{id}/kept``: a new instance from what one has left on an earlier machine."""

from aiohttp import web

from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler


def kept_page_routes() -> list[web.RouteDef]:
    """The page and its buttons."""
    return [
        web.get("/instances/{id}/kept", page_handler(show_kept_page)),
        web.post("/instances/{id}/kept", form_handler(copy_on_kept_page, again=show_kept_page)),
    ]


async def show_kept_page(call: PageCall) -> web.Response:
    """Which machines keep something of it."""
    instance = await call.parts.instances.get(call.session.who, call.path("id"))
    return call.page("kept.html", instance=instance, nodes=instance.kept_on.split())


async def copy_on_kept_page(call: PageCall) -> web.Response:
    """The button that starts a copy."""
    who, node = call.session.who, call.form.get("node", "")
    await call.parts.moves.copy_kept(who, call.path("id"), node)
    return go_to("/")
