"""What admins do with anybody's instances: written down as theirs, told to the owners' pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import PortalError, Unavailable
from dit4c_p2p.portal.models import Instance

Action = Literal["stop", "discard"]
# Of one form; each is a transaction.
MAX_AT_ONCE = 100


@dataclass(frozen=True)
class InstanceActionOutcome:
    """``done``: how many were asked. ``refused``: name and reason of the others."""

    done: int
    refused: tuple[tuple[str, str], ...]


async def instance_log_text(parts: PortalContext, instance: Instance, lines: int) -> str:
    """Return the newest lines of an app's log: live, or what was kept of it when it failed.

    :raises Unavailable: there is no log, and none was kept.
    :raises TookTooLong: it did not arrive in time.
    """
    if instance.state == State.ERRORED or instance.state in FINAL:
        return str(instance.log_tail)
    try:
        return await parts.links.request_logs(instance, lines, parts.config.limits.logs_s)
    except Unavailable:
        if not instance.log_tail:
            raise
        return str(instance.log_tail)


async def act_on_instances(
    parts: PortalContext, action: Action, ids: Iterable[str], *, by: str
) -> InstanceActionOutcome:
    """Stop or discard instances, whoever's; one that is gone meanwhile is passed over.

    :param by: the id of the admin.
    """
    done, refused = 0, list[tuple[str, str]]()
    chosen = list(dict.fromkeys(ids))[:MAX_AT_ONCE]
    found = await Instance.filter(id__in=chosen).exclude(state__in=list(FINAL))
    for instance in found:
        owner = Caller(instance.owner_id, "", is_admin=False)
        await parts.audit.record_best_effort(
            f"admin.instance.{action}",
            who=by,
            about=f"instance-{instance.id} of {instance.owner_id}",
        )
        try:
            if action == "stop":
                await parts.instances.stop(owner, instance.id)
            else:
                await parts.instances.discard(owner, instance.id)
        except PortalError as error:
            refused.append((instance.name, str(error)))
        else:
            done += 1
    return InstanceActionOutcome(done, tuple(refused))
