"""``/instances/{id}/checkpoints``: how often the files of one instance are saved while it runs."""

from aiohttp import web

from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.api.checkpoints import checkpoint_interval_view
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler

_INTERVALS = {
    "0": "never",
    "15": "every 15 minutes",
    "60": "every hour",
    "240": "every 4 hours",
    "1440": "every day",
}


def checkpoints_page_routes() -> list[web.RouteDef]:
    """The page and its form."""
    return [
        web.get("/instances/{id}/checkpoints", page_handler(show)),
        web.post("/instances/{id}/checkpoints", form_handler(choose, again=show)),
    ]


async def show(call: PageCall) -> web.Response:
    """How often one is made of this instance."""
    parts = call.parts
    instance = await parts.instances.get(call.session.who, call.path("id"))
    usual = checkpoint_interval_view(
        await people.get_person(call.by), parts.config.limits
    ).in_force_minutes
    return call.page(
        "instance_checkpoints.html",
        instance=instance,
        intervals=intervals("as for all of mine", usual),
        interval=interval_text(instance.checkpoint_minutes),
    )


async def choose(call: PageCall) -> web.Response:
    """The button of the form."""
    minutes = chosen_interval(call)
    await call.parts.checkpoints.set_interval(call.session.who, call.path("id"), minutes)
    return go_to("/")


def intervals(usual: str, minutes: int) -> dict[str, str]:
    """What is offered, by what the form sends.

    :param usual: the words for the first, which is no choice of one's own.
    :param minutes: what the first means.
    """
    return {"": f"{usual} ({_words_for_checkpoints_page(str(minutes))})", **_INTERVALS}


def interval_text(minutes: int | None) -> str:
    """What the form sends for a choice."""
    return "" if minutes is None else str(minutes)


def chosen_interval(call: PageCall) -> int | None:
    """What was chosen in the form; None: no choice of one's own.

    :raises BadRequest: something that is not offered.
    """
    chosen = call.form.get("minutes", "")
    if chosen and chosen not in _INTERVALS:
        raise BadRequest("checkpoints are made at one of the times offered", field="minutes")
    return int(chosen) if chosen else None


def _words_for_checkpoints_page(minutes: str) -> str:
    return _INTERVALS.get(minutes, f"every {minutes} minutes")
