"""``/instances/{id}/saved``: what was saved of one; ``/shared/…``: what somebody shares."""

from dataclasses import replace

from aiohttp import web

from dit4c_p2p.messages.saved_images import repository_of
from dit4c_p2p.portal.api.pull_secrets import pull_secrets_of_instance
from dit4c_p2p.portal.api.saved import relative_view, shared_url
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.http.archive import send_archive
from dit4c_p2p.portal.instances.lineage import lineage_of_instance
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.login import current, login_needed
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import PullSecretView, time_or_none, time_text
from dit4c_p2p.portal.services.pull_secrets import create_pull_secret, revoke_pull_secret

_DAYS = {"1": "1 day", "7": "1 week", "30": "30 days", "90": "90 days"}
_HOURS = {"1": "1 hour", "24": "1 day", "168": "1 week"}


def saved_page_routes() -> list[web.RouteDef]:
    """The pages and their buttons."""
    return [
        web.get("/instances/{id}/saved", page_handler(show_saved_page)),
        web.post("/instances/{id}/share", form_handler(share_on_saved_page, again=show_saved_page)),
        web.post("/instances/{id}/shares/{share}/revoke", form_handler(revoke_on_saved_page)),
        web.post(
            "/instances/{id}/pull-secrets",
            form_handler(make_secret_on_saved_page, again=show_saved_page),
        ),
        web.post(
            "/instances/{id}/pull-secrets/{secret}/revoke", form_handler(end_secret_on_saved_page)
        ),
        web.get("/instances/{id}/export", export_on_saved_page),
        web.get("/shared/{secret}", page_handler(shared_on_saved_page)),
        web.post(
            "/shared/{secret}", form_handler(derive_on_saved_page, again=shared_on_saved_page)
        ),
        web.get("/shared/{secret}/export", export_shared_on_saved_page),
    ]


async def show_saved_page(
    call: PageCall, link: str = "", made: PullSecretView | None = None
) -> web.Response:
    """Where it comes from, what it takes, who it is shared with.

    :param link: a link that is shown this one time.
    :param made: a secret to pull it with, shown this one time.
    """
    parts, id = call.parts, call.path("id")
    instance = await parts.instances.get(call.session.who, id)
    save = await newest_save(id)
    if save is None:
        raise NotFound("nothing of it has been saved", hint="save it first")
    now = parts.clock()
    return call.page(
        "saved.html",
        instance=instance,
        saved_at=time_text(save.ended_at or 0),
        new_bytes=save.layer_bytes,
        total_bytes=save.total_bytes,
        lineage=[
            relative_view(one) for one in await lineage_of_instance(call.session.who, instance)
        ],
        shares=[
            {
                "id": public_id(one.digest),
                "ends": time_text(one.ends_at),
                "revoked": time_or_none(one.revoked_at),
                "in_force": one.revoked_at is None and one.ends_at > now,
                "uses": await parts.shares.uses(one),
            }
            for one in await parts.shares.of(call.session.who, id)
        ],
        days=_DAYS,
        link=link,
        secrets=await pull_secrets_of_instance(parts, call.session.who, id),
        hours=_HOURS,
        made=made,
    )


async def make_secret_on_saved_page(call: PageCall) -> web.Response:
    """The button that makes a secret to pull with."""
    hours = call.form.get("hours", "")
    if hours not in _HOURS:
        raise BadRequest("choose how long the secret is good for", field="hours")
    made = await create_pull_secret(call.parts, call.session.who, call.path("id"), int(hours))
    return await show_saved_page(replace(call, error=None), made=made)


async def end_secret_on_saved_page(call: PageCall) -> web.Response:
    """The Revoke button of a secret."""
    await revoke_pull_secret(call.parts, call.session.who, call.path("id"), call.path("secret"))
    return go_to(f"/instances/{call.path('id')}/saved")


async def share_on_saved_page(call: PageCall) -> web.Response:
    """The Share button."""
    days = call.form.get("days", "")
    if days not in _DAYS:
        raise BadRequest("choose how long the link is good for", field="days")
    who = call.session.who
    _, secret = await call.parts.shares.create(who, call.path("id"), int(days))
    return await show_saved_page(
        replace(call, error=None), shared_url(call.parts.config.url, secret)
    )


async def revoke_on_saved_page(call: PageCall) -> web.Response:
    """The Revoke button of a link."""
    await call.parts.shares.revoke(call.session.who, call.path("share"))
    return go_to(f"/instances/{call.path('id')}/saved")


async def export_on_saved_page(request: web.Request) -> web.StreamResponse:
    """The Download button."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    call = PageCall(request, session)
    instance = await call.parts.instances.get(session.who, call.path("id"))
    save = await newest_save(instance.id)
    if save is None or save.digest is None:
        raise NotFound("nothing of it has been saved", hint="save it first")
    about = f"instance-{instance.id}"
    await call.parts.audit.record_required("image.export", who=session.who.id, about=about)
    repository = repository_of(instance.id)
    return await send_archive(request, repository, save.digest, f"dit4c-{instance.id}")


async def shared_on_saved_page(call: PageCall) -> web.Response:
    """What a link is to, and what can be done with it."""
    secret = call.path("secret")
    share, save, instance = await call.parts.shares.find(secret)
    return call.page(
        "shared.html",
        instance=instance,
        by=share.by_id,
        ends=time_text(share.ends_at),
        saved_at=time_text(save.ended_at or 0),
        total_bytes=save.total_bytes,
        secret=secret,
    )


async def derive_on_saved_page(call: PageCall) -> web.Response:
    """The "Start my own copy" button."""
    name = call.form.get("name", "")
    await call.parts.shares.derive(call.session.who, call.path("secret"), name)
    return go_to("/")


async def export_shared_on_saved_page(request: web.Request) -> web.StreamResponse:
    """The Download button of somebody who has a link."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    parts = PageCall(request, session).parts
    share, save, instance = await parts.shares.find(request.match_info["secret"])
    await parts.shares.used(session.who, share, "export")
    repository = repository_of(instance.id)
    return await send_archive(request, repository, str(save.digest), f"dit4c-{instance.id}")
