"""Saves: that a person wants an instance's files kept, and what became of it.

    want ──▶ SaveInstance to the scheduler ──▶ … ──▶ PUT /images/ by the instance ──▶ ConfirmUpload

From :meth:`Saves.want` until the image is confirmed, or the scheduler says that it can't be had,
the instance may write to its repository at the image server.
"""

import logging
import secrets
import time
from collections.abc import Callable

import asyncssh
import msgspec

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import IdentityError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import SAVING, State
from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.link import ConfirmUpload, InstanceReport, SaveInstance
from dit4c_p2p.messages.saved_images import (
    COUNTERSIGNATURE_NAMESPACE,
    IMAGE_NAMESPACE,
    Countersigned,
    ImageRecord,
    ImageUploaded,
    image_statement,
    repository_of,
    saved_reference,
    split_saved,
)
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.manifest import Manifest, MediaType, parse_manifest
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.errors import BadRequest, Conflict
from dit4c_p2p.portal.instances import checkpoints
from dit4c_p2p.portal.instances.actions import GOING, is_instance_leaving, may_save_instance
from dit4c_p2p.portal.instances.image_store import ImageStore, check_image_server
from dit4c_p2p.portal.instances.instances import Instances
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.models import ImageSave, Instance

_log = logging.getLogger(__name__)

_ID_BYTES = 10
_PURGE_AT_ONCE = 20


class Saves:
    """What can be done about saves.

    :param key: the portal's own, which countersigns.
    """

    def __init__(
        self,
        key: asyncssh.SSHKey,
        config: PortalConfig,
        registry: KeyRegistry,
        instances: Instances,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._config = config
        self._registry = registry
        self._instances = instances
        self._audit = audit
        self._clock = clock

    # ---- by people

    async def want(self, owner: Caller, id: str) -> Instance:
        """Have an instance stopped and its files saved; asking again changes nothing.

        :raises NotFound: not this person's.
        :raises Conflict: it can't be saved as it is, or there is no image server, or no room.
        """
        async with in_transaction("portal"):
            instance = await self._instances.get(owner, id)
            state = State(instance.state)
            if is_instance_leaving(instance):
                raise Conflict("it is being discarded")
            if state in SAVING or state is State.UPLOADED or await _wanted_save(id):
                return instance
            check_image_server(self._config)
            if not may_save_instance(instance):
                raise Conflict(
                    f"it is {state.replace('_', ' ')}, and can't be saved now",
                    hint="try again in a moment",
                )
            await self.check_room(owner.id)
            save = secrets.token_hex(_ID_BYTES)
            await ImageSave.create(
                id=save, instance_id=id, is_checkpoint=False, wanted_at=self._clock()
            )
            order = SaveInstance(instance=id, save=save, after=instance.sequence)
            await self._instances.order(instance, order)
            instance.info = "Asked to be saved."
            await instance.save(update_fields=["info"])
            await self._audit.record_required(
                "instance.save", who=owner.id, about=f"instance-{id} save {save}"
            )
            once_committed(_log.info, "instance %s: asked to be saved by %s", id, owner.id)
        self._instances.told(instance)
        return instance

    async def copy(self, owner: Caller, id: str, name: str = "") -> Instance:
        """A new instance that goes on from what was saved last of another.

        :raises NotFound: not this person's.
        :raises Conflict: nothing of it is saved yet.
        """
        source = await self._instances.get(owner, id)
        save = await newest_save(id)
        if save is None or save.digest is None:
            underway = State(source.state) in SAVING or await _wanted_save(id)
            raise Conflict(
                "it is still being uploaded" if underway else "nothing of it has been saved",
                hint="try again when it is preserved" if underway else "save it first",
            )
        reference = saved_reference(repository_of(id), save.digest)
        return await self._instances.start_from(owner, source, reference, name)

    async def used_bytes(self, owner: str) -> int:
        """How much of a person's saved images is their own."""
        kept = ImageSave.filter(instance__owner_id=owner, digest__isnull=False, removed_at=None)
        return sum(save.layer_bytes for save in await kept)

    async def check_room(self, owner: str) -> None:
        """Check that a person's saved images may take more.

        :raises Conflict: they may not.
        """
        limit = self._config.limits.saved_bytes_per_person
        if limit is None:
            return
        used = await self.used_bytes(owner)
        if used >= limit:
            raise Conflict(
                f"your saved instances use {_gib_text(used)}"
                f" of the {_gib_text(limit)} GiB that you have",
                hint="discard one that you no longer need",
            )

    # ---- by the instance itself

    async def uploaded(self, id: str, body: ImageUploaded) -> Countersigned:
        """An instance's image is at the image server, in the caller's transaction.

        Said again, it is answered as before.

        :raises BadRequest: not an image as it may be, or not signed by the instance.
        :raises Conflict: the portal does not want it, or not any more.
        """
        save = await ImageSave.get_or_none(id=body.save, instance_id=id)
        if save is None:
            raise Conflict("the portal has not asked for this save")
        if save.digest is not None:
            if save.digest != body.digest:
                raise Conflict("another image was taken for this save")
            return Countersigned(record=save.record, signature=save.signature)
        if save.ended_at is not None:
            raise Conflict("this save was given up")
        instance = await Instance.get(id=id)
        manifest = _checked_image_record(body)
        await self._check_signature(id, body)
        now = self._clock()
        record = ImageRecord(
            digest=body.digest,
            repository=repository_of(id),
            parent=(split_saved(instance.image) or ("", ""))[1],
            base=await _base_image_of(instance),
            creator=instance.owner_id,
            at=int(now),
        )
        text = encode(record)
        save.digest = body.digest
        save.ended_at = now
        save.record = text.decode()
        save.signature = sshsig.sign(self._key, text, COUNTERSIGNATURE_NAMESPACE)
        save.layer_bytes = min(max(0, body.layer_bytes), manifest.content_bytes)
        save.total_bytes = manifest.content_bytes
        await save.save()
        if save.is_checkpoint:
            await checkpoints.confirm_checkpoint(instance, save, now)
        else:
            order = ConfirmUpload(instance=id, save=body.save, digest=body.digest)
            await self._instances.order(instance, order)
            await checkpoints.remove_superseded_checkpoints(save, now)
        await self._audit.record_required(
            "image.take", about=f"instance-{id} save {body.save} {body.digest}"
        )
        once_committed(_log.info, "instance %s: saved as %s", id, body.digest)
        return Countersigned(record=save.record, signature=save.signature)

    async def _check_signature(self, id: str, body: ImageUploaded) -> None:
        statement = image_statement(repository_of(id), body.digest, body.save)
        keys = await self._registry.in_force(PeerName(Kind.INSTANCE, id))
        try:
            sshsig.verify(statement, body.signature, IMAGE_NAMESPACE, keys)
        except IdentityError as error:
            raise BadRequest(f"not signed by the instance: {error}", field="signature") from None


async def take_save_report(report: InstanceReport, now: float) -> None:
    """End a save that can't be had any more, in the caller's transaction."""
    open_saves = ImageSave.filter(instance_id=report.instance, ended_at=None)
    if report.state in GOING:
        await open_saves.update(ended_at=now)
        kept = ImageSave.filter(instance_id=report.instance, removed_at=None)
        await kept.update(removed_at=now)
    elif report.failed_save:
        await open_saves.filter(id=report.failed_save).update(ended_at=now)
    await checkpoints.take_checkpoint_report(report, now)


async def purge_discarded_saves(store: ImageStore, now: float) -> None:
    """Delete at the image server what is of discarded instances; what fails is tried again."""
    waiting = ImageSave.filter(digest__isnull=False, purged_at=None, removed_at__isnull=False)
    for save in await waiting.limit(_PURGE_AT_ONCE):
        try:
            await store.delete(repository_of(save.instance_id), str(save.digest))
        except (DitError, OSError) as error:
            _log.warning("the image of instance %s is not deleted yet: %s", save.instance_id, error)
            return
        save.purged_at = now
        await save.save(update_fields=["purged_at"])


async def newest_save(instance: str) -> ImageSave | None:
    """The save of an instance that was confirmed last, and is not removed; None: there is none."""
    kept = ImageSave.filter(instance_id=instance, digest__isnull=False, removed_at=None)
    return await kept.order_by("-ended_at").first()


async def _wanted_save(instance: str) -> bool:
    return await ImageSave.exists(instance_id=instance, ended_at=None, is_checkpoint=False)


async def _base_image_of(instance: Instance) -> str:
    """The image of the catalogue that an instance began with, over all that it is derived from."""
    if kept := split_kept(instance.image):
        source = await Instance.get_or_none(id=kept[0])
        return "" if source is None else await _base_image_of(source)
    saved = split_saved(instance.image)
    if saved is None:
        return instance.image
    parent = await ImageSave.filter(digest=saved[1]).order_by("ended_at").first()
    if parent is None or not parent.record:
        return ""
    return decode(parent.record, ImageRecord).base


def _checked_image_record(body: ImageUploaded) -> Manifest:
    try:
        manifest = parse_manifest(body.manifest.encode(), MediaType.MANIFEST)
    except (InvalidImage, msgspec.DecodeError) as error:
        raise BadRequest(f"not an image: {error}", field="manifest") from None
    if manifest.digest != body.digest:
        raise BadRequest("the manifest has another digest", field="digest")
    if manifest.config is None or not manifest.layers:
        raise BadRequest("not an image", field="manifest")
    if any(layer.media_type != MediaType.LAYER for layer in manifest.layers):
        raise BadRequest("layers are uncompressed tar archives", field="manifest")
    return manifest


def _gib_text(size: int) -> str:
    return f"{size / 1024**3:.3g}"
