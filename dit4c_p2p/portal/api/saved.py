"""What was saved of ``instances``: lineage, archives, and links for others."""

from aiohttp import web

from dit4c_p2p.messages.saved_images import repository_of
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.errors import Conflict, Unavailable
from dit4c_p2p.portal.http.archive import send_archive
from dit4c_p2p.portal.instances import view as instance_views
from dit4c_p2p.portal.instances.lineage import Relative, lineage_of_instance
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.instances.schemas import InstanceView
from dit4c_p2p.portal.models import ImageShare
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.schemas import (
    NewShare,
    RelativeView,
    SharedName,
    ShareUseView,
    ShareView,
    time_text,
)


async def lineage(call: Call) -> list[RelativeView]:
    """From which instance it was started, and which were started from it, the oldest first."""
    instance = await call.parts.instances.get(call.who, call.path("id"))
    return [relative_view(one) for one in await lineage_of_instance(call.who, instance)]


async def export(call: Call) -> web.StreamResponse:
    """What was saved last, as an archive for ``docker load``; a range of it can be asked for."""
    instance = await call.parts.instances.get(call.who, call.path("id"))
    save = await newest_save(instance.id)
    if save is None or save.digest is None:
        raise Conflict("nothing of it has been saved", hint="save it first")
    await call.parts.audit.record_required(
        "image.export", who=call.who.id, about=f"instance-{instance.id}"
    )
    return await send_archive(
        call.request, repository_of(instance.id), save.digest, f"dit4c-{instance.id}"
    )


async def share(call: Call, body: NewShare) -> ShareView:
    """A link with an end to what was saved last; its address is told this once."""
    made, secret = await call.parts.shares.create(call.who, call.path("id"), body.days)
    url = shared_url(call.parts.config.url, secret)
    return await share_view(call, made, url)


async def shares(call: Call) -> list[ShareView]:
    """The links to what was saved of an instance, and who used them."""
    found = await call.parts.shares.of(call.who, call.path("id"))
    return [await share_view(call, one) for one in found]


async def revoke(call: Call) -> ShareView:
    """End a link; asking again changes nothing. Copies that were made of it stay."""
    return await share_view(call, await call.parts.shares.revoke(call.who, call.path("share")))


async def derive(call: Call, body: SharedName) -> InstanceView:
    """A new instance of one's own that goes on from what a link is to."""
    made = await call.parts.shares.derive(call.who, call.path("secret"), body.name)
    call.located(f"{PREFIX}/instances/{made.id}")
    return instance_views.instance_view(made, call.parts.config)


def shared_url(portal: str, secret: str) -> str:
    """The address of a link."""
    return f"{portal}/shared/{secret}"


def relative_view(one: Relative) -> RelativeView:
    """The API's form of an instance in a tree."""
    save = one.save
    return RelativeView(
        id=one.id,
        name=one.name,
        parent=one.parent,
        depth=one.depth,
        state=one.state,
        saved=None if save is None or save.ended_at is None else time_text(save.ended_at),
        saved_by=one.owner,
        new_bytes=save.layer_bytes if save else 0,
        total_bytes=save.total_bytes if save else 0,
    )


async def share_view(call: Call, one: ImageShare, url: str = "") -> ShareView:
    """The API's form of a link."""
    uses = await call.parts.shares.uses(one)
    return ShareView(
        id=public_id(one.digest),
        url=url,
        created=time_text(one.created_at),
        ends=time_text(one.ends_at),
        revoked=None if one.revoked_at is None else time_text(one.revoked_at),
        uses=[
            ShareUseView(person=use.person_id, what=use.what, at=time_text(use.at)) for use in uses
        ],
    )


ENDPOINTS = (
    Endpoint("GET", "instances/{id}/lineage", lineage),
    Endpoint(
        "GET",
        "instances/{id}/export",
        export,
        media=("application/x-tar",),
        errors=(Conflict, Unavailable),
    ),
    Endpoint("POST", "instances/{id}/share", share, status=201, errors=(Conflict,)),
    Endpoint("GET", "instances/{id}/shares", shares),
    Endpoint("POST", "shares/{share}/revoke", revoke),
    Endpoint("POST", "shared/{secret}", derive, status=201, location=True, errors=(Conflict,)),
)
