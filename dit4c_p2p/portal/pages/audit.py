"""``/admin/audit``: the audit log's newest lines, and its newest hash to be kept elsewhere."""

import asyncio

from aiohttp import web

from dit4c_p2p.audit import AuditBroken, recent
from dit4c_p2p.portal.pages.page import PageCall, page_handler

_MOST_SHOWN = 100


def routes() -> list[web.RouteDef]:
    """The one page."""
    return [web.get("/admin/audit", page_handler(audit, admins=True))]


async def audit(call: PageCall) -> web.Response:
    """Where the chain stands, whether lines were found missing, and the newest lines."""
    log, problem, lines, newest = call.parts.audit, "", [], None
    path = call.parts.config.audit_path
    try:
        newest = await log.newest()
        lines = await asyncio.to_thread(recent, path, _MOST_SHOWN)
    except (OSError, AuditBroken) as error:
        problem = str(error)
    return call.page(
        "admin_audit.html",
        newest=newest,
        lines=lines,
        file=path.name,
        shortened=log.shortened,
        problem=problem,
    )
