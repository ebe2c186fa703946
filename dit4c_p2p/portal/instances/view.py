"""How an instance is shown: one set of facts for the API and the pages, words for people. Pure."""

from typing import Any

import msgspec

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.instances.catalogue import Catalogue
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.schemas import InstanceView, time_text

_WORDS = {
    State.CREATED: "Waiting",
    State.WAITING_FOR_IMAGE: "Getting ready",
    State.STARTING: "Starting",
    State.RUNNING: "Running",
    State.STOPPING: "Stopping",
    State.EXITED: "Stopped",
    State.DISCARDING: "Discarding",
    State.DISCARDED: "Discarded",
    State.ERRORED: "Failed",
}
_SENTENCES = {
    State.EXITED: "The program has ended.",
    State.DISCARDING: "Everything of it is being removed.",
    State.DISCARDED: "Nothing of it is left.",
    State.ERRORED: "It could not go on.",
}
# While it starts again, the address of the time before does not answer yet.
_ANSWERS = (State.RUNNING,)
_UNDER_WAY = (State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING, State.STOPPING)
_GOING = (State.DISCARDING, State.DISCARDED)


def view(instance: Instance, config: PortalConfig) -> InstanceView:
    """The API's form of an instance."""
    state = State(instance.state)
    asked = instance.discard_asked_at is not None and state not in _GOING
    url = None
    if instance.answers_on and state in _ANSWERS and not asked:
        url = config.instance_url(instance.id)
    actions = ["open"] if url else []
    if not asked:
        actions += _what_can_be_asked(state, placed=instance.node is not None)
    info = instance.info or _SENTENCES.get(state, "")
    if state is State.RUNNING and info.strip(".") in ("", _WORDS[State.RUNNING]):
        info = "Ready to use." if url else "Its address does not answer yet."
    return InstanceView(
        id=instance.id,
        name=instance.name,
        state=state,
        info="Asked to be discarded; it is being stopped." if asked else info,
        progress=None if asked else instance.progress,
        url=url,
        image=instance.image_name,
        actions=actions,
        created=time_text(instance.created_at, "milliseconds"),
    )


def page_view(instance: Instance, config: PortalConfig, catalogue: Catalogue) -> dict[str, Any]:
    """:func:`view` with what the dashboard shows besides."""
    state = State(instance.state)
    asked = instance.discard_asked_at is not None
    image = catalogue.named(instance.image_name)
    title = image.title if image else instance.image_name
    going = asked or state in _GOING
    shown = view(instance, config)
    return msgspec.structs.asdict(shown) | {
        "since": time_text(instance.changed_at) if state is State.RUNNING and shown.url else "",
        "word": _WORDS[State.DISCARDING] if asked and state not in _GOING else _WORDS[state],
        "tone": _tone(state, going=going),
        "busy": going or state in _UNDER_WAY,
        "tool": "" if instance.name.startswith(title) else title,
        "icon": (image.icon if image else "") or title[:1].upper(),
        "log": instance.log_tail if state is State.ERRORED else "",
        "gone": state is State.DISCARDED,
        "version": instance.version,
    }


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
    elif state in _GOING:
        word = "gone"
    else:
        word = "stopped"
    if instance.discard_asked_at is not None:
        word = "gone"
    return {"state": word, "title": image.title if image else ""}


def _what_can_be_asked(state: State, *, placed: bool) -> list[str]:
    if state in _GOING:
        return []
    if placed and state in (State.EXITED, State.ERRORED):
        return ["start", "discard"]
    return ["stop", "discard"] if state is State.RUNNING else ["discard"]


def _tone(state: State, *, going: bool) -> str:
    if state is State.ERRORED and not going:
        return "bad"
    if state is State.RUNNING and not going:
        return "good"
    return "calm"
