"""``/admin/audit``: the audit log's newest lines, and its newest hash to be kept elsewhere."""

import asyncio

from aiohttp import web

from dit4c_p2p.audit import AuditBroken, recent_audit_lines
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, page_handler

_SHOWN = 100
# The newest: the search looks at these. Older lines are searched in the file itself.
_MOST_READ = 20_000
_COLUMNS = {
    "at": ("at",),
    "who": ("who", "at"),
    "what": ("what", "at"),
    "from": ("from", "at"),
    "outcome": ("outcome", "at"),
}


def audit_page_routes() -> list[web.RouteDef]:
    """The one page."""
    return [web.get("/admin/audit", page_handler(show_audit_page, admins=True))]


async def show_audit_page(call: PageCall) -> web.Response:
    """Where the chain stands, whether lines were found missing, and the newest lines."""
    log, problem, lines, newest = call.parts.audit, "", [], None
    path = call.parts.config.audit_path
    try:
        newest = await log.newest()
        lines = await asyncio.to_thread(recent_audit_lines, path, _MOST_READ)
    except (OSError, AuditBroken) as error:
        problem = str(error)
    listing = Listing.asked(call, "/admin/audit", _COLUMNS, usual="-at", size=_SHOWN)
    shown = listing.items(
        lines,
        key=lambda line, name: str(line.get(name) or ""),
        text=lambda line: " ".join(str(value) for value in line.values()),
    )
    return call.page(
        "admin_audit.html",
        newest=newest,
        lines=shown,
        listing=listing,
        read=len(lines),
        file=path.name,
        shortened=log.shortened,
        problem=problem,
    )
