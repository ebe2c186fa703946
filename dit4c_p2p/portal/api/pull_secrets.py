"""``instances/{id}/pull-secrets``: names and secrets with which stock clients pull saved images."""

from dit4c_p2p.messages.saved_images import repository_of
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import Conflict
from dit4c_p2p.portal.models import ImageSecret
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.schemas import (
    NewPullSecret,
    PullSecretEntry,
    PullSecretView,
    time_or_none,
    time_text,
)
from dit4c_p2p.portal.services.pull_secrets import create_pull_secret, revoke_pull_secret


async def make(call: Call, body: NewPullSecret) -> PullSecretView:
    """A name and a secret for ``docker login``, good for pulling what was saved of an instance."""
    return await create_pull_secret(call.parts, call.who, call.path("id"), body.hours)


async def list_secrets(call: Call) -> list[PullSecretEntry]:
    """Those of an instance that are in force, the newest first; never the secrets themselves."""
    return await pull_secrets_of_instance(call.parts, call.who, call.path("id"))


async def revoke(call: Call) -> list[PullSecretEntry]:
    """End one of them at once; answers with those that are left. Again changes nothing."""
    await revoke_pull_secret(call.parts, call.who, call.path("id"), call.path("secret"))
    return await pull_secrets_of_instance(call.parts, call.who, call.path("id"))


async def pull_secrets_of_instance(
    parts: PortalContext, who: Caller, id: str
) -> list[PullSecretEntry]:
    """The person's secrets for one of their instances that are in force, the newest first.

    :raises NotFound: not this person's.
    """
    instance = await parts.instances.get(who, id)
    found = ImageSecret.filter(
        person_id=who.id,
        repository=repository_of(instance.id),
        revoked_at=None,
        ends_at__gt=parts.clock(),
    )
    return [
        PullSecretEntry(
            id=public_id(one.digest),
            created=time_text(one.created_at),
            ends=time_text(one.ends_at),
            used=time_or_none(one.used_at),
        )
        for one in await found.order_by("-created_at")
    ]


ENDPOINTS = (
    Endpoint("GET", "instances/{id}/pull-secrets", list_secrets),
    Endpoint("POST", "instances/{id}/pull-secrets", make, status=201, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/pull-secrets/{secret}/revoke", revoke),
)
