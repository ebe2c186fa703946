"""Views of an instance for the API and the pages. Pure."""

from typing import Any

import msgspec

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.instances.actions import GOING, offered_actions
from dit4c_p2p.portal.instances.catalogue import Catalogue
from dit4c_p2p.portal.instances.memory import Memory
from dit4c_p2p.portal.instances.reachability import Unreachable
from dit4c_p2p.portal.instances.schemas import (
    CheckpointView,
    InstanceView,
    MemoryView,
    UnreachableView,
)
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.schemas import time_or_none, time_text
from dit4c_p2p.portal.storage.files import size_text

_WORDS = {
    State.CREATED: "Waiting",
    State.WAITING_FOR_IMAGE: "Getting ready",
    State.STARTING: "Starting",
    State.RUNNING: "Running",
    State.STOPPING: "Stopping",
    State.EXITED: "Stopped",
    State.SAVING: "Saving",
    State.SAVED: "Saving",
    State.UPLOADING: "Uploading",
    State.UPLOADED: "Preserved",
    State.DISCARDING: "Discarding",
    State.DISCARDED: "Discarded",
    State.ERRORED: "Failed",
}
_SENTENCES = {
    State.EXITED: "The program has ended.",
    State.UPLOADED: "Start a copy to go on from here.",
    State.DISCARDING: "Everything of it is being removed.",
    State.DISCARDED: "Nothing of it is left.",
    State.ERRORED: "It could not go on.",
}
# While it starts again, the address of the time before does not answer yet.
_ANSWERS = (State.RUNNING,)
_UNDER_WAY = (
    State.CREATED,
    State.WAITING_FOR_IMAGE,
    State.STARTING,
    State.STOPPING,
    State.SAVING,
    State.SAVED,
    State.UPLOADING,
)
# Their log can be asked for, or was kept.
_LOGGED = (
    *(State.WAITING_FOR_IMAGE, State.STARTING, State.RUNNING, State.STOPPING),
    *(State.EXITED, State.ERRORED),
)
# What is known of these is of before, when their machine can't be asked. The others don't change.
_HIDDEN = (
    *(State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING, State.RUNNING),
    *(State.STOPPING, State.DISCARDING),
)


def instance_view(
    instance: Instance,
    config: PortalConfig,
    unreachable: Unreachable | None = None,
    memory: Memory | None = None,
) -> InstanceView:
    """Return the API's form of an instance.

    :param unreachable: why it is not reached now, see ``reachability``.
    :param memory: what it uses, as far as that is known.
    """
    state = State(instance.state)
    asked = instance.discard_asked_at is not None and state not in GOING
    cut = unreachable is not None and unreachable.what == "key"
    url = None
    if instance.answers_on and state in _ANSWERS and not asked and not cut:
        url = config.instance_url(instance.id)
    lost = instance.gone or (unreachable is not None and unreachable.what == "machine")
    actions = offered_actions(
        instance, opens=url is not None, cut=cut, saves=bool(config.imageservers), lost=lost
    )
    info = instance.info or _SENTENCES.get(state, "")
    if state is State.RUNNING and info.strip(".") in ("", _WORDS[State.RUNNING]):
        info = "Ready to use." if url else "Its address does not answer yet."
    if unreachable is not None and state in _HIDDEN:
        info = _unreachable_text(unreachable, f" since {time_text(unreachable.since)}")
    elif asked:
        info = "Asked to be discarded; it is being stopped."
    return InstanceView(
        id=instance.id,
        name=instance.name,
        state=state,
        info=info,
        progress=None if asked else instance.progress,
        url=url,
        image=instance.image_name,
        actions=actions,
        created=time_text(instance.created_at, "milliseconds"),
        since=time_text(instance.changed_at),
        unreachable=None
        if unreachable is None
        else UnreachableView(unreachable.what, time_text(unreachable.since), unreachable.why),
        checkpoint=_checkpoint_view(instance, state),
        kept_on=instance.kept_on.split(),
        memory=None
        if memory is None or unreachable is not None
        else MemoryView(memory.used, memory.limit),
    )


def memory_text(memory: Memory | None) -> str:
    """``412 MiB of 2 GiB``; empty where it is not known."""
    return "" if memory is None else f"{size_text(memory.used)} of {size_text(memory.limit)}"


def _checkpoint_view(instance: Instance, state: State) -> CheckpointView | None:
    if state in GOING or state is State.UPLOADED:
        return None
    return CheckpointView(
        busy=instance.checkpoint_busy,
        info=instance.checkpoint_info,
        progress=instance.checkpoint_progress,
        at=time_or_none(instance.checkpoint_at),
        minutes=instance.checkpoint_minutes,
    )


def instance_page_view(
    instance: Instance,
    config: PortalConfig,
    catalogue: Catalogue,
    unreachable: Unreachable | None = None,
    memory: Memory | None = None,
) -> dict[str, Any]:
    """:func:`instance_view` with what the dashboard shows besides."""
    state = State(instance.state)
    asked = instance.discard_asked_at is not None
    image = catalogue.named(instance.image_name)
    title = image.title if image else instance.image_name
    going = asked or state in GOING
    shown = instance_view(instance, config, unreachable, memory)
    hidden = unreachable is not None and state in _HIDDEN
    found: dict[str, Any] = msgspec.to_builtins(shown) | {
        "since": time_text(instance.changed_at) if state is State.RUNNING and shown.url else "",
        "word": _WORDS[State.DISCARDING] if asked and state not in GOING else _WORDS[state],
        "tone": _tone_of_state(state, going=going),
        "busy": going or state in _UNDER_WAY,
        "tool": "" if instance.name.startswith(title) else title,
        "icon": (image.icon if image else "") or title[:1].upper(),
        "info": _with_full_stop(shown.info),
        "log": instance.log_tail if state is State.ERRORED else "",
        "machine": _machine_name(instance),
        "changed": time_text(instance.changed_at),
        "logs": instance.node is not None and state in _LOGGED,
        "gone": state is State.DISCARDED,
        "version": instance.version,
        "memory": memory_text(memory) if shown.memory else "",
        "unreachable": None,
    }
    if unreachable is not None and hidden:
        found |= {
            "info": _with_full_stop(_unreachable_text(unreachable)),
            "since": time_text(unreachable.since),
            "changed": time_text(unreachable.since),
            "tone": "bad",
        }
        if not going and state is not State.CREATED:
            found["word"] = "Cut off" if unreachable.what == "key" else "Not reachable"
    return found


def _unreachable_text(unreachable: Unreachable, since: str = "") -> str:
    if unreachable.what == "key":
        return f"Cut off{since}: {unreachable.why}. Its files are kept; give it a new key to go on."
    return f"Not reachable{since}: {unreachable.why}."


def _with_full_stop(text: str) -> str:
    """A sentence for a page, which something may follow."""
    return text + "." if text and text[-1] not in ".!?:…" else text


def _machine_name(instance: Instance) -> str:
    """The machine's name as people know it, without the kind of peer."""
    return (instance.node or "").partition("-")[2]


def page_state(instance: Instance | None, catalogue: Catalogue) -> dict[str, str]:
    """What a router may know, for the page it shows in the place of an instance."""
    if instance is None:
        return {"state": "unknown", "title": ""}
    image = catalogue.named(instance.image_name)
    state = State(instance.state)
    if state is State.RUNNING:
        word = "running"
    elif state in (State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING):
        word = "starting"
    elif state in GOING:
        word = "gone"
    else:
        word = "stopped"
    if instance.discard_asked_at is not None:
        word = "gone"
    return {"state": word, "title": image.title if image else ""}


def _tone_of_state(state: State, *, going: bool) -> str:
    if state is State.ERRORED and not going:
        return "bad"
    if state in (State.RUNNING, State.UPLOADED) and not going:
        return "good"
    return "calm"
