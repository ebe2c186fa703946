"""Instances at the portal: what people want, and the states that schedulers report.

A wish and the message that carries it are written in one transaction; the message waits in
:class:`~dit4c_p2p.portal.models.Outgoing` until the scheduler has it.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable

from tortoise.functions import Count
from tortoise.queryset import QuerySet

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import IdentityError
from dit4c_p2p.identity.keys import fingerprint, parse_public
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.link import (
    INSTANCE_KEY_NAMESPACE,
    AllocatedKey,
    DiscardInstance,
    InstanceReport,
    StartAgain,
    StartInstance,
    StopInstance,
    ToScheduler,
    key_statement,
)
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.portal.accounts.limits import limits_of_person
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.errors import BadRequest, Conflict, NoSuchInstance, NotFound, PortalError
from dit4c_p2p.portal.instances import actions, quota
from dit4c_p2p.portal.instances.catalogue import catalogue, chosen_image
from dit4c_p2p.portal.instances.fields import (
    free_instance_name,
    new_instance_id,
    progress_fraction,
    storable_text,
)
from dit4c_p2p.portal.instances.holding import instances_holding_places
from dit4c_p2p.portal.instances.machines import chosen_machine
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.keys.registry import KeyRegistry, instance_name
from dit4c_p2p.portal.live_updates import LiveUpdates
from dit4c_p2p.portal.models import Instance, OAuthToken, Outgoing
from dit4c_p2p.portal.opaque_tokens import new_token

_log = logging.getLogger(__name__)

_MAX_INFO_CHARS = 1000
MAX_LOG_CHARS = 64 * 1024


class Instances:
    """Operations on instances.

    :param kick: called with a scheduler's id when there is a new message for it.
    :param grants_changed: called with the peer names whose storage grants have changed.
    """

    def __init__(
        self,
        config: PortalConfig,
        registry: KeyRegistry,
        hub: LiveUpdates,
        kick: Callable[[str], None],
        audit: Audit,
        grants_changed: Callable[[Iterable[str]], None],
        reach: Reachability,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._registry = registry
        self._hub = hub
        self._kick = kick
        self._audit = audit
        self._grants_changed = grants_changed
        self._reach = reach
        self._start_rate = quota.StartRate(clock)
        self._clock = clock

    # ---- by people

    async def start(self, owner: Caller, image: str, name: str = "", machine: str = "") -> Instance:
        """A new instance of a catalogue image, on its way to the scheduler.

        :param image: the image's name in the catalogue, or its id.
        :param name: what the person calls it; the image's title if empty.
        :param machine: the id of the node that it is to run on; any if empty.
        :raises BadRequest: no such image, or not any more, or not a name.
        :raises Conflict: the person has as many as they may, or as many that run.
        :raises TooMany: the person has started too many within a minute.
        """
        name = checked_name(name)
        async with in_transaction("portal"):
            tool = chosen_image(await catalogue(self._config, owner), image)
            node = await chosen_machine(self._config.scheduler, machine)
            instance = await self._create(owner, tool.name, tool.image, name, tool.title, node)
        self._created(instance)
        return instance

    async def start_from(
        self, owner: Caller, source: Instance, image: str, name: str = ""
    ) -> Instance:
        """A new instance of the person's that goes on from a saved image of another.

        Raises as :meth:`start`.

        :param image: the saved image's reference.
        """
        name = checked_name(name)
        async with in_transaction("portal"):
            instance = await self._create(owner, source.image_name, image, name, source.name)
        self._created(instance)
        return instance

    async def _create(
        self, owner: Caller, image_name: str, image: str, name: str, title: str, node: str = ""
    ) -> Instance:
        """In the caller's transaction. ``title`` is its name, with a number, if none is given."""
        now, limits = self._clock(), self._config.limits
        mine = await self.of(owner)
        names = [one.name for one in mine]
        here = (State(one.state) for one in mine if one.state != State.UPLOADED)
        allowed = await limits_of_person(owner.id, limits)
        quota.check_instance_number(here, allowed.in_all)
        quota.check_instances_at_once(await instances_holding_places(mine), allowed.at_once)
        self._start_rate.check(owner.id, limits)
        instance = await Instance.create(
            id=new_instance_id(),
            owner_id=owner.id,
            name=name or free_instance_name(title, {str(taken) for taken in names}),
            image_name=image_name,
            image=image,
            scheduler=self._config.scheduler,
            key_nonce=new_token(),
            state=State.CREATED,
            info="Waiting for the scheduler to choose a machine.",
            progress=None,
            sequence=-1,
            log_tail="",
            answers_on=[],
            created_at=now,
            changed_at=now,
        )
        id, nonce = instance.id, instance.key_nonce
        order = StartInstance(
            instance=id, image=image, key_nonce=nonce, title=instance.name, node=node
        )
        await self._send(instance.scheduler, order)
        about = f"instance-{instance.id} of {image_name}"
        await self._audit.record_required("instance.create", who=owner.id, about=about)
        return instance

    def _created(self, instance: Instance) -> None:
        _log.info("instance %s: created by %s", instance.id, instance.owner_id)
        self._kick(instance.scheduler)
        self._tell(instance)
        self._tell_grants(instance)

    async def discard(self, owner: Caller, id: str) -> Instance:
        """Have the scheduler remove an instance; asking again changes nothing.

        Nobody is let in any more from now on; its key goes when the scheduler begins.

        :raises NotFound: not this person's.
        """
        changes: list[KeyEvent] = []
        async with in_transaction("portal"):
            instance = await self.get(owner, id)
            asked = instance.discard_asked_at is not None
            if not asked and instance.state not in actions.GOING:
                instance.discard_asked_at = self._clock()
                await instance.save(update_fields=["discard_asked_at"])
                await OAuthToken.filter(instance=id, revoked_at=None).update(
                    revoked_at=instance.discard_asked_at
                )
                await self._send(instance.scheduler, DiscardInstance(instance=instance.id))
                changes = await self._end_without_scheduler(instance, owner)
                await self._audit.record_best_effort(
                    "instance.discard", who=owner.id, about=f"instance-{id}"
                )
                once_committed(
                    _log.info, "instance %s: discard asked for by %s", instance.id, owner.id
                )
        self._registry.announce(changes)
        self._kick(instance.scheduler)
        self._tell(instance)
        return instance

    async def _end_without_scheduler(self, instance: Instance, owner: Caller) -> list[KeyEvent]:
        """End an instance whose scheduler has no key any more, and so can't report its end.

        The order stays for a scheduler that gets another key.
        """
        scheduler = str(PeerName(Kind.SCHEDULER, instance.scheduler))
        if self._reach.revoked_since(scheduler) is None:
            return []
        instance.state = State.DISCARDED
        instance.info = f"Discarded; what is left of it is out of reach: {scheduler} was revoked"
        instance.changed_at = self._clock()
        await instance.save(update_fields=["state", "info", "changed_at"])
        once_committed(self._tell_grants, instance)
        return await self._registry.revoke_all(instance_name(instance.id), by=owner.id)

    async def stop(self, owner: Caller, id: str) -> Instance:
        """Have the app stopped; its container and its key are kept. Again changes nothing.

        :raises NotFound: not this person's.
        :raises Conflict: it has not started yet, or is being discarded.
        """
        return await self._wish(
            owner, id, StopInstance, actions.may_stop_instance, actions.STOPPED, "stopped"
        )

    async def start_again(self, owner: Caller, id: str) -> Instance:
        """Have an app that was stopped, or has ended, started where it is. Again changes nothing.

        :raises NotFound: not this person's.
        :raises Conflict: it is being stopped or discarded, or was never placed on a machine; or the
            person has as many that run as they may.
        :raises TooMany: the person has started too many within a minute.
        """
        return await self._wish(
            owner, id, StartAgain, actions.may_start_instance, actions.STARTED, "started again"
        )

    async def new_key(self, owner: Caller, id: str) -> Instance:
        """Have an instance that runs, and whose key was revoked, given a new one.

        One that is stopped gets it when it is started again.

        :raises NotFound: not this person's.
        :raises Conflict: its key is in force, or it does not run.
        """
        async with in_transaction("portal"):
            instance = await self.get(owner, id)
            if actions.is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            if not actions.may_give_instance_new_key(instance, cut=self._is_cut(instance)):
                raise Conflict(
                    "it does not need a new key now",
                    hint="only one that runs, and whose key was revoked, can be given another",
                )
            order = StartAgain(instance=id, after=instance.sequence, new_key=True)
            if await self._waits(instance.scheduler, order):
                return instance
            await self._send(instance.scheduler, order)
            await self._audit.record_required(
                "instance.new_key", who=owner.id, about=f"instance-{id}"
            )
        self._kick(instance.scheduler)
        self._tell(instance)
        return instance

    def _is_cut(self, instance: Instance) -> bool:
        """Whether its own key was revoked, and its machine may make another."""
        name = str(instance_name(instance.id))
        return self._reach.revoked_since(name) is not None

    async def rename(self, owner: Caller, id: str, name: str) -> Instance:
        """Give an instance another name.

        :raises NotFound: not this person's.
        :raises BadRequest: not a name.
        :raises Conflict: it is being discarded.
        """
        name = checked_name(name, required=True)
        async with in_transaction("portal"):
            instance = await self.get(owner, id)
            if actions.is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            if name == instance.name:
                return instance
            instance.name = name
            await instance.save(update_fields=["name"])
            await self._audit.record_required(
                "instance.rename", who=owner.id, about=f"instance-{id}"
            )
        self._tell(instance)
        return instance

    async def _wish(
        self,
        owner: Caller,
        id: str,
        kind: type[StopInstance] | type[StartAgain],
        may: Callable[[Instance], bool],
        done: frozenset[State],
        word: str,
    ) -> Instance:
        async with in_transaction("portal"):
            instance = await self.get(owner, id)
            state = State(instance.state)
            if actions.is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            if state in done:
                return instance
            if kind is StartAgain and instance.gone:
                raise Conflict(
                    "its container is gone, so it can't be started again",
                    hint="discard it, and start the tool anew",
                )
            if not may(instance):
                raise Conflict(
                    f"it is {state.replace('_', ' ')}, and can't be {word} now",
                    hint="try again in a moment",
                )
            order: StopInstance | StartAgain = kind(instance=id, after=instance.sequence)
            if isinstance(order, StartAgain) and self._is_cut(instance):
                order = StartAgain(instance=id, after=order.after, new_key=True)
            if await self._waits(instance.scheduler, order):
                return instance
            if kind is StartAgain:
                mine = await self.of(owner)
                others = [one for one in mine if one.id != id]
                allowed = await limits_of_person(owner.id, self._config.limits)
                quota.check_instances_at_once(
                    await instances_holding_places(others), allowed.at_once
                )
                self._start_rate.check(owner.id, self._config.limits)
            await self._send(instance.scheduler, order)
            instance.info = f"Asked to be {word}."
            await instance.save(update_fields=["info"])
            if kind is StopInstance:
                await self._audit.record_best_effort(
                    "instance.stop", who=owner.id, about=f"instance-{id}"
                )
            else:
                await self._audit.record_required(
                    "instance.start", who=owner.id, about=f"instance-{id}"
                )
            once_committed(_log.info, "instance %s: asked to be %s by %s", id, word, owner.id)
        self._kick(instance.scheduler)
        self._tell(instance)
        return instance

    async def get(self, owner: Caller, id: str) -> Instance:
        """Return one of the person's instances.

        :raises NotFound: no such instance, or somebody else's.
        """
        instance = await Instance.get_or_none(id=id, owner_id=owner.id)
        if instance is None:
            raise NoSuchInstance()
        return instance

    def of(self, owner: Caller, *, discarded: bool = False) -> QuerySet[Instance]:
        """The person's instances, newest first; those that are gone only if asked for."""
        found = Instance.filter(owner_id=owner.id).order_by("-created_at")
        return found if discarded else found.exclude(state__in=list(FINAL))

    async def counts(self) -> dict[str, float]:
        """How many instances, not counting those that are gone, are in which state."""
        rows = Instance.exclude(state__in=list(FINAL)).annotate(count=Count("id"))
        found = await rows.group_by("state").values_list("state", "count")
        return {str(state): float(count) for state, count in found}

    # ---- by schedulers, in the transaction that takes their message

    async def take_report(self, scheduler: str, report: InstanceReport) -> list[KeyEvent]:
        """Write down what a scheduler says, if it is its own instance and news.

        An instance that is being discarded, or is preserved, loses its key with the same commit.

        :raises NotFound: not this scheduler's.
        """
        instance = await self._of_scheduler(scheduler, report.instance)
        stale = report.sequence <= instance.sequence or report.epoch < instance.epoch
        if stale or instance.state in FINAL:
            return []
        if report.state != instance.state:
            once_committed(_log.info, "instance %s: %s", instance.id, report.state)
            instance.changed_at = self._clock()
        instance.sequence = report.sequence
        instance.state = report.state
        instance.info = storable_text(report.info[:_MAX_INFO_CHARS])
        instance.progress = progress_fraction(report.progress)
        instance.gone, instance.ran = report.gone, report.ran
        instance.log_tail = storable_text(report.log_tail[-MAX_LOG_CHARS:])
        moved = report.node is not None and report.node != instance.node
        instance.node = report.node or instance.node
        if moved or report.state in FINAL:
            once_committed(self._tell_grants, instance)
        if report.state not in (State.STARTING, State.RUNNING):
            instance.answers_on = []
        await instance.save()
        if report.state in actions.GOING or report.state is State.UPLOADED:
            return await self._registry.revoke_all(
                instance_name(instance.id), by=f"scheduler-{scheduler}"
            )
        return []

    async def take_key(self, scheduler: str, allocated: AllocatedKey) -> list[KeyEvent]:
        """Publish an instance's key that the instance and its node have both signed for.

        A pod that had to be made again has a new key; the one before goes out of force with it.

        :raises NotFound: not this scheduler's instance, or not its node.
        :raises Conflict: the instance is going, or the key has another holder.
        :raises IdentityError: a signature does not verify.
        """
        instance = await self._of_scheduler(scheduler, allocated.instance)
        if instance.state in actions.GOING:
            raise Conflict(f"instance {instance.id} is {instance.state}")
        node = PeerName.parse(allocated.node)
        if node.kind is not Kind.NODE or await self._registry.scheduler_of(node) != scheduler:
            raise NotFound(f"{node} is not a node of scheduler-{scheduler}")
        key = parse_public(allocated.public_key)
        statement = key_statement(instance.id, str(node), fingerprint(key), instance.key_nonce)
        sshsig.verify(statement, allocated.instance_signature, INSTANCE_KEY_NAMESPACE, [key])
        sshsig.verify(
            statement,
            allocated.node_signature,
            INSTANCE_KEY_NAMESPACE,
            await self._registry.in_force(node),
        )
        if instance.node != str(node):
            # Its files are granted by whose machine it is on; a report of it may come later.
            instance.node = str(node)
            await instance.save(update_fields=["node"])
            once_committed(self._tell_grants, instance)
        name = instance_name(instance.id)
        in_force = {fingerprint(known) for known in await self._registry.in_force(name)}
        changes = await self._registry.publish(name, key, by=str(node))
        for superseded in in_force - {fingerprint(key)}:
            changes += await self._registry.revoke(superseded, by=str(node))
        return changes

    def changed(self, instance: Instance) -> None:
        """Notify the owner's live views; called after the commit."""
        self._tell(instance)

    # ---- by the instance itself

    async def answers_on(self, id: str, routers: list[str]) -> Instance:
        """The listener saw its own URL answer through these routers, in the caller's transaction.

        :raises BadRequest: not routers of this installation.
        :raises Conflict: the instance is not being started and not running.
        """
        known = {router.name for router in self._config.routers}
        if not routers or not known.issuperset(routers):
            raise BadRequest("not routers of this installation", field="routers")
        instance = await Instance.get(id=id)
        if instance.state in actions.GOING or instance.state == State.ERRORED:
            raise Conflict(f"instance {id} is {instance.state}")
        instance.answers_on = sorted(set(routers))
        await instance.save(update_fields=["answers_on"])
        return instance

    # ---- inside

    async def _of_scheduler(self, scheduler: str, id: str) -> Instance:
        instance = await Instance.get_or_none(id=id, scheduler=scheduler)
        if instance is None:
            raise NotFound(f"{id!r} is not an instance of scheduler-{scheduler}")
        return instance

    async def order(self, instance: Instance, message: ToScheduler) -> None:
        """Keep a message for the instance's scheduler, in the caller's transaction."""
        await self._send(instance.scheduler, message)

    def told(self, instance: Instance) -> None:
        """After the commit: the scheduler is sent what waits, live views show it."""
        self._kick(instance.scheduler)
        self._tell(instance)

    async def _waits(self, scheduler: str, message: ToScheduler) -> bool:
        """Whether exactly this is on its way already."""
        return await Outgoing.exists(scheduler=scheduler, body=encode(message).decode())

    async def _send(self, scheduler: str, message: ToScheduler) -> None:
        await Outgoing.create(
            message_id=uuid.uuid4().hex,
            scheduler=scheduler,
            body=encode(message).decode(),
            created_at=self._clock(),
        )

    def _tell_grants(self, instance: Instance) -> None:
        person = PeerName(Kind.USER, instance.owner_id)
        self._grants_changed([str(instance_name(instance.id)), str(person)])

    def _tell(self, instance: Instance) -> None:
        self._hub.tell(f"person:{instance.owner_id}", instance.id)


# What :meth:`Instances.take_report` and :meth:`Instances.take_key` may refuse a message for.
REFUSALS = (PortalError, IdentityError)
