"""Going on elsewhere: an instance whose machine is lost goes on from its newest checkpoint.

One transaction raises its epoch, revokes its key and orders its start at another machine; its
address stays. What its old machine still has is stopped there if the machine comes back, and kept.
"""

import logging
import time
from collections.abc import Callable

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.kept_files import kept_reference
from dit4c_p2p.messages.link import InstanceReport, MoveInstance
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import Conflict
from dit4c_p2p.portal.instances.actions import is_instance_leaving
from dit4c_p2p.portal.instances.instances import Instances
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.keys.registry import KeyRegistry, instance_name
from dit4c_p2p.portal.models import ImageSave, Instance
from dit4c_p2p.portal.opaque_tokens import new_token

_log = logging.getLogger(__name__)

_MAX_KEPT = 20


class Moves:
    """Moves of instances to other machines."""

    def __init__(
        self,
        registry: KeyRegistry,
        instances: Instances,
        reach: Reachability,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._instances = instances
        self._reach = reach
        self._audit = audit
        self._clock = clock

    async def go_on(self, owner: Caller, id: str) -> Instance:
        """Have an instance whose machine is lost go on from its checkpoint at another machine.

        :raises NotFound: not this person's.
        :raises Conflict: its machine is not lost, or there is no checkpoint.
        """
        async with in_transaction("portal"):
            instance = await self._instances.get(owner, id)
            if is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            save = await newest_save(id)
            if save is None or save.digest is None or instance.checkpoint_at is None:
                raise Conflict("there is no checkpoint of it to go on from")
            if not is_instance_lost(instance, self._reach):
                raise Conflict(
                    "its machine answers",
                    hint="start a copy from the checkpoint, or stop it and start it again",
                )
            now, node = self._clock(), instance.node
            instance.epoch += 1
            instance.moved_at = now
            instance.image = saved_reference(repository_of(id), save.digest)
            instance.key_nonce = new_token()
            instance.state = State.CREATED
            instance.info = "Going on from its checkpoint; waiting for another machine."
            instance.progress = None
            instance.log_tail = ""
            instance.node = None
            instance.gone = False
            instance.answers_on = []
            instance.changed_at = now
            instance.checkpoint_busy, instance.checkpoint_info = False, ""
            instance.checkpoint_progress = None
            await instance.save()
            await ImageSave.filter(instance_id=id, ended_at=None).update(ended_at=now)
            changes = await self._registry.revoke_all(instance_name(id), by=owner.id)
            order = MoveInstance(
                instance=id,
                epoch=instance.epoch,
                image=instance.image,
                key_nonce=instance.key_nonce,
            )
            await self._instances.order(instance, order)
            await self._audit.record_required(
                "instance.move", who=owner.id, about=f"instance-{id} from {node}"
            )
            once_committed(_log.info, "instance %s: goes on elsewhere, %s is lost", id, node)
        self._registry.announce(changes)
        self._instances.told(instance)
        return instance

    async def copy_kept(self, owner: Caller, id: str, node: str, name: str = "") -> Instance:
        """A new instance from what an instance has left on an earlier machine, and on that machine.

        :raises NotFound: not this person's.
        :raises Conflict: nothing of it is kept there.
        """
        source = await self._instances.get(owner, id)
        if node not in source.kept_on.split() or is_instance_leaving(source):
            raise Conflict("nothing of it is kept on that machine")
        return await self._instances.start_from(owner, source, kept_reference(id, node), name)


def is_instance_lost(instance: Instance, reach: Reachability) -> bool:
    """Whether an instance's container can't be had: it is gone, or its machine does not answer."""
    if instance.node is None:
        return False
    unreachable = reach.of(instance)
    return instance.gone or (unreachable is not None and unreachable.what == "machine")


async def take_move_report(report: InstanceReport) -> None:
    """Write down which machines keep an earlier container, in the report's transaction."""
    instance = await Instance.get_or_none(id=report.instance)
    if instance is None or instance.sequence != report.sequence:
        return
    kept = " ".join(report.kept_on[:_MAX_KEPT])
    if report.epoch == instance.epoch and kept != instance.kept_on:
        instance.kept_on = kept
        await instance.save(update_fields=["kept_on"])
