"""Handlers of pages and forms for people who are logged in.

A handler takes a :class:`PageCall`; its route states who may call it::

    web.get("/admin/tools", page_handler(list_page, admins=True)),
    web.post("/admin/tools", form_handler(add, again=list_page, admins=True)),

A refused form is shown again by its page, with the error and the values that were entered.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.context import PortalContext, services
from dit4c_p2p.portal.errors import NotFound, PortalError
from dit4c_p2p.portal.pages import notices
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed
from dit4c_p2p.portal.paging import MAX_CURSOR_CHARS


@dataclass(frozen=True)
class PageCall:
    """A request with its session.

    ``form`` holds the fields that were sent, none if nothing was; ``error`` is why they were
    refused.
    """

    request: web.Request
    session: LoggedIn
    form: Mapping[str, str] = field(default_factory=dict)
    error: PortalError | None = None

    @property
    def parts(self) -> PortalContext:
        """The portal's parts."""
        return services(self.request)

    @property
    def by(self) -> str:
        """The id of the person."""
        return self.session.who.id

    @property
    def cursor(self) -> str:
        """After which item a list begins; empty for its beginning."""
        return self.request.query.get("cursor", "")[:MAX_CURSOR_CHARS]

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]

    def page(self, template: str, **shown: Any) -> web.Response:
        """Render a template with ``shown``, the session and the error."""
        done = notices.left(self.request)
        response = aiohttp_jinja2.render_template(
            template,
            self.request,
            {
                "session": self.session,
                "error": self.error,
                "notice_text": "" if self.error else done,
                **shown,
            },
            status=self.error.status if self.error else 200,
        )
        if done:
            notices.take_back(self.request, response)
        return response


PageHandler = Callable[[PageCall], Awaitable[web.StreamResponse]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_handler(
    handler: PageHandler, *, admins: bool = False, after_login: bool = False
) -> _Handler:
    """Return aiohttp's handler of a page.

    :param after_login: whether a visitor who has to log in first is led to it after that.

    :param admins: whether it is for them alone; for everybody else it does not exist.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        call = await _call_for_page_page(request, admins=admins)
        if call is None:
            return login_needed(request, after_login=request.raw_path if after_login else "")
        return await handler(call)

    return serve


def form_handler(
    handler: PageHandler,
    *,
    again: PageHandler | None = None,
    admins: bool = False,
    done: str = notices.DONE,
) -> _Handler:
    """Return aiohttp's handler of a form from one of the portal's own pages (:func:`checked_form`).

    :param again: the page that shows the form and what was wrong with it; without one, an error is
        a page of its own.
    :param admins: as for :func:`page_handler`.
    :param done: what the page after the form says.
    """
    notices.register(done)

    async def answered(call: PageCall) -> web.StreamResponse:
        response = await handler(call)
        if response.status == HTTPStatus.SEE_OTHER:
            notices.leave(call.request, response, done)
        return response

    async def serve(request: web.Request) -> web.StreamResponse:
        call = await _call_for_page_page(request, admins=admins)
        if call is None:
            return login_needed(request)
        call = replace(call, form=await checked_form(request, call.session))
        if again is None:
            return await answered(call)
        try:
            return await answered(call)
        except PortalError as error:
            return await again(replace(call, error=error))

    return serve


async def _call_for_page_page(request: web.Request, *, admins: bool) -> PageCall | None:
    session = await current(request)
    if session is None:
        return None
    if admins and not session.who.is_admin:
        raise NotFound("there is no such page")
    return PageCall(request, session)
