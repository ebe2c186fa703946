"""Deletion of an account with its data; what takes time goes on afterwards until it is done.

At once: the name, sessions, tokens, passkeys, identities, SSH keys, memberships and links are gone,
and every instance is asked to be discarded, which deletes its saved images and its own files too.
Later, by :func:`finish_account_deletions`: the person's private files at the file server. Files in
the folders of groups belong to the groups and stay. The account's id stays in the audit log.
"""

import asyncio
import logging
from dataclasses import dataclass

from dit4c_p2p.database import in_transaction
from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import BadRequest, NoSuchInstance
from dit4c_p2p.portal.keys.user_keys import user_name
from dit4c_p2p.portal.models import Instance, Person
from dit4c_p2p.portal.storage import file_actions
from dit4c_p2p.portal.storage.homes import homes, tree_of_person
from dit4c_p2p.portal.storage.paths import FilePath

_log = logging.getLogger(__name__)

# Of one pass: other housekeeping waits meanwhile, and what was removed stays removed.
_PASS_S = 20.0
_PEOPLE_AT_ONCE = 10


@dataclass(frozen=True)
class DeletedAccount:
    """What was deleted with an account: how many instances and SSH keys."""

    instances: int
    ssh_keys: int


def check_own_account(id: str, *, by: str, own: bool) -> None:
    """Check that whoever acts on their own account means it.

    :raises BadRequest: it is their own account, and they have not said so.
    """
    if id == by and not own:
        raise BadRequest(
            "this is your own account",
            field="own",
            hint="tick the box (in the API: own is true) if you mean it",
        )


async def delete_person(
    parts: PortalContext, id: str, *, by: str, own: bool = False
) -> DeletedAccount:
    """Delete an account with its data.

    :param own: whether ``by`` means it to be their own account.
    :raises BadRequest: their own account, without saying so.
    :raises NotFound: no such person.
    :raises Conflict: the last admin would be gone.
    """
    check_own_account(id, by=by, own=own)
    async with in_transaction("portal"):
        await people.mark_account_deleted(id, by=by, now=parts.clock())
        keys = await parts.user_keys.of(id)
        changes = []
        for key in keys:
            changes += await parts.user_keys.remove(id, key.fingerprint, by=by)
        count = await Instance.filter(owner_id=id).exclude(state__in=list(FINAL)).count()
        about = f"{id}: {count} instances, {len(keys)} SSH keys, files and saved images"
        await parts.audit.record_required("person.delete", who=by, about=about)
    parts.registry.announce(changes)
    parts.sessions.look_again(id)
    parts.grant_events.changed([str(user_name(id))])
    await _discard_all_instances(parts, id)
    return DeletedAccount(count, len(keys))


async def finish_account_deletions(parts: PortalContext) -> None:
    """Go on with deletions that are not done yet; called every now and then."""
    waiting = Person.filter(deleted_at__isnull=False, files_removed_at=None)
    for person in await waiting.order_by("deleted_at").limit(_PEOPLE_AT_ONCE):
        await _discard_all_instances(parts, person.id)
        try:
            async with asyncio.timeout(_PASS_S):
                await _remove_person_files(parts, person.id)
        except (DitError, OSError, TimeoutError) as error:
            _log.warning(
                "files of the deleted account %s are not removed yet: %s", person.id, error
            )
            continue
        async with in_transaction("portal"):
            person.files_removed_at = parts.clock()
            await person.save(update_fields=["files_removed_at"])
            await parts.audit.record_best_effort("person.files_removed", about=person.id)
        parts.grant_events.changed([str(user_name(person.id))])


async def _discard_all_instances(parts: PortalContext, id: str) -> None:
    owner = Caller(id, "", is_admin=False)
    rows = Instance.filter(owner_id=id, discard_asked_at=None).exclude(state__in=list(FINAL))
    for instance in await rows:
        try:
            await parts.instances.discard(owner, instance.id)
        except NoSuchInstance:
            continue


async def _remove_person_files(parts: PortalContext, id: str) -> None:
    tree = tree_of_person(id)
    server = (await homes([tree], parts.storage_defaults))[tree].server
    if server is None:
        return
    private = FilePath((b"private",))
    async with parts.file_servers.session(server, id) as sftp:
        for item in await file_actions.list_folder(sftp, private):
            await file_actions.delete(sftp, private.child(item.name))
