"""Checkpoints: an instance's files are saved while its app goes on, by hand or every so often.

    want ──▶ CheckpointInstance to the scheduler ──▶ … ──▶ PUT /images/ by the instance

A checkpoint takes the place of the one before, which is deleted unless it is shared or something
was started from it.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.link import CheckpointInstance, InstanceReport
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.errors import Conflict, PortalError
from dit4c_p2p.portal.instances.actions import is_instance_leaving, may_checkpoint_instance
from dit4c_p2p.portal.instances.fields import progress_fraction, storable_text
from dit4c_p2p.portal.instances.image_store import check_image_server
from dit4c_p2p.portal.instances.instances import Instances
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.models import ImageSave, ImageShare, Instance, Person

_log = logging.getLogger(__name__)

_ID_BYTES = 10
_MAX_INFO_CHARS = 1000
# Of one round of housekeeping: a cluster with many instances makes them one after the other.
_DUE_AT_ONCE = 50


class Checkpoints:
    """What can be done about checkpoints.

    :param check_room: raises Conflict if a person's saved images take all that they may.
    """

    def __init__(
        self,
        config: PortalConfig,
        instances: Instances,
        reach: Reachability,
        audit: Audit,
        check_room: Callable[[str], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._instances = instances
        self._reach = reach
        self._audit = audit
        self._check_room = check_room
        self._clock = clock

    async def want(self, owner: Caller, id: str) -> Instance:
        """Have an instance's files saved while its app goes on; again changes nothing meanwhile.

        :raises NotFound: not this person's.
        :raises Conflict: it does not run, or there is no image server, or no room.
        """
        async with in_transaction("portal"):
            instance = await self._instances.get(owner, id)
            if is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            if await is_checkpoint_underway(id):
                return instance
            check_image_server(self._config)
            if not may_checkpoint_instance(instance):
                raise Conflict(
                    f"it is {instance.state.replace('_', ' ')}: a checkpoint is of one that runs",
                    hint="save it, or start it first",
                )
            await self._check_room(owner.id)
            await self._begin(instance, owner.id)
        self._instances.told(instance)
        return instance

    async def _begin(self, instance: Instance, who: str) -> None:
        save = secrets.token_hex(_ID_BYTES)
        await ImageSave.create(
            id=save, instance_id=instance.id, is_checkpoint=True, wanted_at=self._clock()
        )
        await self._instances.order(instance, CheckpointInstance(instance=instance.id, save=save))
        instance.checkpoint_busy = True
        instance.checkpoint_info = "Asked for a checkpoint."
        instance.checkpoint_progress = None
        await instance.save(
            update_fields=["checkpoint_busy", "checkpoint_info", "checkpoint_progress"]
        )
        await self._audit.record_required(
            "instance.checkpoint", who=who, about=f"instance-{instance.id} save {save}"
        )
        once_committed(_log.info, "instance %s: checkpoint asked for by %s", instance.id, who)

    async def set_interval(self, owner: Caller, id: str, minutes: int | None) -> Instance:
        """How often checkpoints of an instance are made; 0 is never, None as its person has it.

        :raises NotFound: not this person's.
        """
        async with in_transaction("portal"):
            instance = await self._instances.get(owner, id)
            instance.checkpoint_minutes = minutes
            await instance.save(update_fields=["checkpoint_minutes"])
        self._instances.changed(instance)
        return instance

    async def begin_due(self) -> None:
        """Begin the checkpoints whose time has come. One that can't be is tried again next time."""
        if not self._config.imageservers:
            return
        begun, now = 0, self._clock()
        usual = {
            str(id): minutes
            for id, minutes in await Person.all().values_list("id", "checkpoint_minutes")
        }
        running = Instance.filter(state=State.RUNNING.value, discard_asked_at=None)
        for instance in await running.order_by("changed_at"):
            minutes = instance.checkpoint_minutes
            if minutes is None:
                minutes = usual.get(instance.owner_id)
            if minutes is None:
                minutes = self._config.limits.checkpoint_minutes
            if minutes <= 0 or self._reach.of(instance) is not None:
                continue
            last = await ImageSave.filter(instance_id=instance.id).order_by("-wanted_at").first()
            since = max(instance.changed_at, last.wanted_at if last else 0.0)
            if now - since < minutes * 60 or await is_checkpoint_underway(instance.id):
                continue
            try:
                await self._begin_due(instance.id)
            except PortalError as error:
                _log.warning("instance %s: no checkpoint: %s", instance.id, error.one_line())
            begun += 1
            if begun >= _DUE_AT_ONCE:
                return

    async def _begin_due(self, id: str) -> None:
        async with in_transaction("portal"):
            instance = await Instance.get(id=id)
            if not may_checkpoint_instance(instance) or is_instance_leaving(instance):
                return
            await self._check_room(instance.owner_id)
            await self._begin(instance, instance.owner_id)
        self._instances.told(instance)


async def take_checkpoint_report(report: InstanceReport, now: float) -> None:
    """Write down how a checkpoint is, in the transaction that has taken the report."""
    instance = await Instance.get_or_none(id=report.instance)
    if instance is None or instance.sequence != report.sequence:
        return
    if report.failed_checkpoint:
        await ImageSave.filter(
            id=report.failed_checkpoint, instance_id=instance.id, ended_at=None
        ).update(ended_at=now)
    busy = await is_checkpoint_underway(instance.id)
    info = ""
    if (busy and report.checkpoint) or (not busy and await _has_checkpoint_failed(report)):
        info = storable_text(report.checkpoint_info[:_MAX_INFO_CHARS])
    elif busy:
        info = instance.checkpoint_info
    progress = progress_fraction(report.checkpoint_progress) if busy else None
    said = (busy, info, progress)
    if said != (
        instance.checkpoint_busy,
        instance.checkpoint_info,
        instance.checkpoint_progress,
    ):
        instance.checkpoint_busy, instance.checkpoint_info, instance.checkpoint_progress = said
        await instance.save(
            update_fields=["checkpoint_busy", "checkpoint_info", "checkpoint_progress"]
        )


async def _has_checkpoint_failed(report: InstanceReport) -> bool:
    """Whether the newest checkpoint can't be had; the portal may have it all the same."""
    if not report.failed_checkpoint:
        return False
    return await ImageSave.exists(id=report.failed_checkpoint, digest=None)


async def confirm_checkpoint(instance: Instance, save: ImageSave, now: float) -> None:
    """The portal has a checkpoint, in the caller's transaction; older ones are not needed."""
    instance.checkpoint_at = save.wanted_at
    instance.checkpoint_busy, instance.checkpoint_info = False, ""
    instance.checkpoint_progress = None
    await instance.save(
        update_fields=[
            "checkpoint_at",
            "checkpoint_busy",
            "checkpoint_info",
            "checkpoint_progress",
        ]
    )
    await remove_superseded_checkpoints(save, now)


async def remove_superseded_checkpoints(newest: ImageSave, now: float) -> None:
    """Delete older checkpoints that nobody refers to, in the caller's transaction."""
    older = ImageSave.filter(
        instance_id=newest.instance_id,
        is_checkpoint=True,
        digest__isnull=False,
        removed_at=None,
    ).exclude(id=newest.id)
    for save in await older:
        reference = saved_reference(repository_of(save.instance_id), str(save.digest))
        started = Instance.filter(image=reference).exclude(state__in=list(FINAL))
        shared = ImageShare.filter(image_id=save.id, revoked_at=None, ends_at__gt=now)
        if await started.exists() or await shared.exists():
            continue
        save.removed_at = now
        # The same image is the newer one's as well.
        save.purged_at = now if save.digest == newest.digest else None
        await save.save(update_fields=["removed_at", "purged_at"])


async def is_checkpoint_underway(instance: str) -> bool:
    """Whether a checkpoint of the instance is wanted and neither confirmed nor given up."""
    return await ImageSave.exists(instance_id=instance, ended_at=None, is_checkpoint=True)
