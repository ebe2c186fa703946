"""``instances/{id}/pull-secrets``: names and secrets with which stock clients pull saved images."""

from yarl import URL

from dit4c_p2p.database import in_transaction
from dit4c_p2p.oci.names import InstanceRepository
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.errors import Conflict
from dit4c_p2p.portal.instances.images import create_secret
from dit4c_p2p.portal.models import ImageSave
from dit4c_p2p.portal.schemas import NewPullSecret, PullSecretView, time_text

_HOUR_S = 3600.0


async def make(call: Call, body: NewPullSecret) -> PullSecretView:
    """A name and a secret for ``docker login``, good for pulling what was saved of an instance."""
    instance = await call.parts.instances.get(call.who, call.path("id"))
    saves = ImageSave.filter(instance_id=instance.id, digest__isnull=False)
    save = await saves.order_by("-ended_at").first()
    if save is None:
        raise Conflict("nothing of it has been saved", hint="save it first")
    if not call.parts.config.imageservers:
        raise Conflict("there is no image server", hint="ask an admin to set one up")
    url = URL(call.parts.config.imageservers[0].info.url)
    if url.path.strip("/"):
        raise Conflict(
            "the image server is below a path, which container engines know nothing of",
            hint="export it as an archive",
        )
    repository, now = str(InstanceRepository(instance.id)), call.parts.clock()
    async with in_transaction("portal"):
        secret = await create_secret(
            call.who.id, repository, now=now, lifetime_s=body.hours * _HOUR_S
        )
        await call.parts.audit.record_required("image.secret", about=f"instance-{instance.id}")
    registry = str(url.origin()).partition("://")[2]  # a usual port is not said
    return PullSecretView(
        registry=registry,
        user=call.who.id,
        secret=secret,
        image=f"{registry}/{repository}@{save.digest}",
        ends=time_text(now + body.hours * _HOUR_S),
    )


ENDPOINTS = (Endpoint("POST", "instances/{id}/pull-secrets", make, status=201, errors=(Conflict,)),)
