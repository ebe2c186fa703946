"""The scheduler's database: instances, the portal's orders, and messages to the portal.

Every method is one transaction, and raises :class:`StoreFailed` if the transaction fails. An
instance and the report about its change are stored together, so that a crash never separates them.
"""

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tortoise.functions import Count

from dit4c_p2p.database import FAILURES, DatabaseSpec, in_transaction, once_committed
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.link import (
    AllocatedKey,
    CheckpointInstance,
    ClusterState,
    ConfirmUpload,
    DiscardInstance,
    ImageChecked,
    InstanceLogs,
    InstanceOrder,
    InstanceReport,
    MemoryUse,
    MoveInstance,
    RequestState,
    SaveInstance,
    StartAgain,
    StartInstance,
    StopInstance,
    ToPortal,
    ToPortalEnvelope,
)
from dit4c_p2p.messages.node import PodKey
from dit4c_p2p.scheduler.config import REGISTRY_FOLDER
from dit4c_p2p.scheduler.errors import StoreFailed
from dit4c_p2p.scheduler.events import CheckpointAsked, MoveAsked
from dit4c_p2p.scheduler.lifecycle import (
    DiscardAsked,
    Event,
    Instance,
    Limits,
    SaveAsked,
    StartAsked,
    StopAsked,
    UploadConfirmed,
    advance_instance,
)
from dit4c_p2p.scheduler.models import Incoming, InstanceRow, Outgoing

_log = logging.getLogger(__name__)

APP = "scheduler"

# A message that comes again later than this would find its instance in a later state anyway.
INCOMING_KEPT_S = 30 * 24 * 3600

# A key and its two signatures, of whichever algorithm, are well below. A longer one would never
# reach the portal, and neither would what comes after it.
_MAX_KEY_CHARS = 16 * 1024

# What is wanted of a key is over once its pod is to go.
_KEY_STATES = frozenset({State.STARTING, State.RUNNING})


def scheduler_database(data_folder: Path, location: str = "") -> DatabaseSpec:
    """Return the scheduler's database for ``databases()``, in its data folder by default.

    :param location: where else, as :class:`DatabaseSpec` takes it.
    """
    # Keys are looked up once the database is open.
    return DatabaseSpec(
        APP, location or data_folder / "scheduler.sqlite3", trace=data_folder / REGISTRY_FOLDER
    )


# Fields that an instance and its row have in common by name.
_SAME = (
    "checkpoint",
    "checkpoint_info",
    "checkpoint_progress",
    "checkpoint_deadline",
    "failed_checkpoint",
    "failed_checkpoint_info",
    "epoch",
    "left_on",
    "kept_on",
    "title",
    "wanted_node",
)


@dataclass(frozen=True)
class PendingMessage:
    """A message to the portal that is not acknowledged; ``position`` is its place in the order."""

    position: int
    envelope: ToPortalEnvelope


class Store:
    """Access to the scheduler's database, which has to be open.

    :param clock: seconds since 1970.
    :param on_outgoing: called after a message to the portal was stored.
    :param on_moved: called with an instance and the state that it has come into.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        limits: Limits,
        on_outgoing: Callable[[], None],
        on_moved: Callable[[str, State], None] = lambda instance, state: None,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._on_outgoing = on_outgoing
        self._on_moved = on_moved

    # ---- the portal's orders

    async def receive(self, id: str, order: InstanceOrder) -> tuple[bool, Instance | None]:
        """Store an order of the portal, of that id, and the instance after it.

        Return whether the order is new, and the instance as it is now.
        """
        async with _store_transaction():
            new = not await Incoming.exists(message_id=id)
            row = await InstanceRow.get_or_none(id=order.instance)
            if new:
                await Incoming.create(message_id=id, at=self._clock())
                match order:
                    case StartInstance():
                        if row is None:
                            row = await self._make(order)
                    case DiscardInstance():
                        # It may come before the start that it ends.
                        unknown = StartInstance(instance=order.instance, image="", key_nonce="")
                        row = row or await self._make(unknown)
                        await self._advance(row, DiscardAsked())
                    case StopInstance(after=after) if row is not None:
                        await self._advance(row, StopAsked(after))
                    case StartAgain(after=after, new_key=new_key) if row is not None:
                        await self._advance(row, StartAsked(after, new_key))
                    case SaveInstance(save=save, after=after) if row is not None:
                        await self._advance(row, SaveAsked(save, after))
                    case CheckpointInstance(save=save) if row is not None:
                        await self._advance(row, CheckpointAsked(save))
                    case MoveInstance(epoch=epoch, image=image) if row is not None:
                        await self._advance(row, MoveAsked(epoch, image, order.key_nonce))
                    case ConfirmUpload(save=save) if row is not None:
                        await self._advance(row, UploadConfirmed(save))
                    case RequestState() if row is not None:
                        await self._report(row)
                        await row.save()
            instance = None if row is None else _stored_instance(row)
        self._on_outgoing()
        return new, instance

    async def _make(self, order: StartInstance) -> InstanceRow:
        now = self._clock()
        row = InstanceRow(
            id=order.instance,
            image=order.image,
            key_nonce=order.key_nonce,
            title=order.title,
            wanted_node=order.node,
            state=State.CREATED.value,
            info="Waiting for a machine",
            log_tail="",
            discard_wanted=False,
            pod_asked=False,
            sequence=0,
            run=1,
            ran=False,
            wish=0,
            failure="",
            gone=False,
            key_run=0,
            save_id="",
            failed_save="",
            uploaded="",
            confirmed=False,
            checkpoint="",
            checkpoint_info="",
            failed_checkpoint="",
            failed_checkpoint_info="",
            epoch=0,
            left_on="",
            kept_on="",
            public_key="",
            created_at=now,
            changed_at=now,
        )
        await self._report(row)
        await row.save(force_create=True)
        once_committed(self._moved, order.instance, State.CREATED, "ordered")
        return row

    # ---- what happens to instances

    async def apply(self, instance: str, event: Event) -> Instance:
        """Store an event, the instance after it, and the report about the change.

        :raises KeyError: no such instance.
        """
        async with _store_transaction():
            row = await InstanceRow.get_or_none(id=instance)
            if row is None:
                raise KeyError(instance)
            changed = await self._advance(row, event)
            result = _stored_instance(row)
        if changed:
            self._on_outgoing()
        return result

    async def _advance(self, row: InstanceRow, event: Event) -> bool:
        before = _stored_instance(row)
        after = advance_instance(before, event, self._clock(), self._limits)
        if after == before:
            return False
        row.image = after.image
        row.key_nonce = after.key_nonce
        row.state = after.state.value
        row.node = after.node
        row.info = after.info
        row.progress = after.progress
        row.log_tail = after.log_tail
        row.discard_wanted = after.discard_wanted
        row.pod_asked = after.pod_asked
        row.deadline = after.deadline
        row.run = after.run
        row.ran = after.ran
        row.wish = after.wish
        row.failure = after.failure
        row.gone = after.gone
        row.key_run = after.key_run
        row.save_id = after.save
        row.failed_save = after.failed_save
        row.uploaded = after.uploaded
        row.confirmed = after.confirmed
        for name in _SAME:
            setattr(row, name, getattr(after, name))
        row.changed_at = self._clock()
        await self._report(row)
        await row.save()
        if after.state is not before.state:
            text = f"{before.state} → {after.state} ({after.info})"
            once_committed(self._moved, row.id, after.state, text)
        return True

    def _moved(self, instance: str, state: State, text: str) -> None:
        _log.info("instance %s: %s", instance, text)
        self._on_moved(instance, state)

    async def key_made(self, instance: str, key: PodKey) -> bool:
        """Store the message that asks the portal to publish this key, once for each key.

        A key that comes when the pod is to go already is left alone, and so is what can't be one.

        Returns whether it takes the place of another.
        """
        said_chars = len(key.public_key) + len(key.instance_signature) + len(key.node_signature)
        if said_chars > _MAX_KEY_CHARS:
            _log.warning(
                "instance %s: its node says that %d characters are a key", instance, said_chars
            )
            return False
        async with _store_transaction():
            row = await InstanceRow.get_or_none(id=instance)
            if row is None or row.node is None or State(row.state) not in _KEY_STATES:
                return False
            if row.public_key == key.public_key:
                return False
            replaces = row.public_key != ""
            row.public_key = key.public_key
            await row.save()
            await self._put(
                f"key {instance}",
                AllocatedKey(
                    instance=instance,
                    node=row.node,
                    public_key=key.public_key,
                    instance_signature=key.instance_signature,
                    node_signature=key.node_signature,
                ),
            )
        self._on_outgoing()
        return replaces

    async def unfinished(self) -> list[Instance]:
        """Return every instance that is not in a final state, the oldest first."""
        final = [state.value for state in FINAL]
        async with _store_transaction():
            rows = await InstanceRow.exclude(state__in=final).order_by("created_at", "id")
        return [_stored_instance(row) for row in rows]

    async def counts(self) -> tuple[dict[str, float], int]:
        """Return the numbers of unfinished instances by state and of waiting messages."""
        final = [state.value for state in FINAL]
        async with _store_transaction():
            rows = InstanceRow.exclude(state__in=final).annotate(count=Count("id"))
            found = await rows.group_by("state").values_list("state", "count")
            waiting = await Outgoing.all().count()
        return {str(state): float(count) for state, count in found}, waiting

    async def get(self, instance: str) -> Instance | None:
        """Return the instance of that id, or None."""
        async with _store_transaction():
            row = await InstanceRow.get_or_none(id=instance)
        return None if row is None else _stored_instance(row)

    # ---- what the portal is to be told

    async def tell(self, message: InstanceLogs | ClusterState | MemoryUse | ImageChecked) -> None:
        """Store a message until the portal acknowledges it."""
        match message:
            case InstanceLogs():
                topic = f"logs {message.request}"
            case ImageChecked():
                topic = f"image {message.request}"
            case MemoryUse():
                topic = f"memory {message.node}"
            case ClusterState():
                topic = "cluster"
        async with _store_transaction():
            await self._put(topic, message)
        self._on_outgoing()

    async def outgoing(self, after: int, most: int) -> Sequence[PendingMessage]:
        """Return the first ``most`` unacknowledged messages with a position over ``after``."""
        async with _store_transaction():
            rows = await Outgoing.filter(position__gt=after).order_by("position").limit(most)
        return [
            PendingMessage(
                row.position, ToPortalEnvelope(id=row.message_id, body=_stored_body(row.body))
            )
            for row in rows
        ]

    async def acknowledged(self, message_id: str) -> None:
        """Delete a message that the portal has stored."""
        async with _store_transaction():
            await Outgoing.filter(message_id=message_id).delete()

    async def tidy(self) -> None:
        """Forget the ids of messages that are too old to come again."""
        async with _store_transaction():
            await Incoming.filter(at__lt=self._clock() - INCOMING_KEPT_S).delete()

    async def _report(self, row: InstanceRow) -> None:
        """Count up, and put the report in the place of one about the same state.

        The caller saves the row in the same transaction.
        """
        row.sequence += 1
        state = State(row.state)
        report = InstanceReport(
            instance=row.id,
            sequence=row.sequence,
            state=state,
            info=row.info,
            progress=row.progress,
            log_tail=row.log_tail,
            node=row.node,
            gone=row.gone,
            failed_save=row.failed_save,
            checkpoint=row.checkpoint,
            checkpoint_info=row.checkpoint_info or row.failed_checkpoint_info,
            checkpoint_progress=row.checkpoint_progress,
            failed_checkpoint=row.failed_checkpoint,
            epoch=row.epoch,
            kept_on=row.kept_on.split(),
            ran=row.ran,
        )
        await self._put(f"report {row.id} {state}", report)

    async def _put(self, topic: str, message: ToPortal) -> None:
        body = encode(message).decode()
        if await Outgoing.exists(topic=topic, body=body):
            # Exactly this is on its way already.
            return
        await Outgoing.filter(topic=topic).delete()
        await Outgoing.create(
            message_id=uuid.uuid4().hex,
            topic=topic,
            body=body,
            created_at=self._clock(),
        )


@asynccontextmanager
async def _store_transaction() -> AsyncIterator[None]:
    try:
        async with in_transaction(APP):
            yield
    except FAILURES as error:
        raise StoreFailed(f"the scheduler's database does not work: {error}") from error


def _stored_body(text: str) -> ToPortal:
    return decode(text, ToPortal)  # type: ignore[arg-type]


def _stored_instance(row: InstanceRow) -> Instance:
    return Instance(
        id=row.id,
        image=row.image,
        key_nonce=row.key_nonce,
        state=State(row.state),
        node=row.node,
        info=row.info,
        progress=row.progress,
        log_tail=row.log_tail,
        discard_wanted=row.discard_wanted,
        pod_asked=row.pod_asked,
        deadline=row.deadline,
        sequence=row.sequence,
        run=row.run,
        ran=row.ran,
        wish=row.wish,
        failure=row.failure,
        gone=row.gone,
        key_run=row.key_run,
        save=row.save_id,
        failed_save=row.failed_save,
        uploaded=row.uploaded,
        confirmed=row.confirmed,
        **{name: getattr(row, name) for name in _SAME},
    )
