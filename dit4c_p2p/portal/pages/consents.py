"""``/consents/{owner}``: whether the machines that somebody lends may open one's files."""

from aiohttp import web

from dit4c_p2p.portal.models import OwnerConsent
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services.storage import give_machine_consent, withdraw_machine_consent
from dit4c_p2p.portal.storage import consent


def consents_page_routes() -> list[web.RouteDef]:
    """The question and its answers."""
    one = "/consents/{owner}"
    return [
        web.get(one, page_handler(ask_on_consents_page)),
        web.post(one, form_handler(give_on_consents_page)),
        web.post(f"{one}/withdraw", form_handler(withdraw_on_consents_page)),
    ]


async def ask_on_consents_page(call: PageCall) -> web.Response:
    """What it means to agree, before it is done."""
    owner = await consent.lender(call.path("owner"), call.by)
    return call.page(
        "consent.html",
        owner=owner,
        nodes=await consent.nodes_of(owner.id),
        given=await OwnerConsent.exists(person_id=call.by, owner=owner.id),
    )


async def give_on_consents_page(call: PageCall) -> web.Response:
    """The answer "yes"."""
    await give_machine_consent(call.parts, call.by, call.path("owner"))
    return go_to("/")


async def withdraw_on_consents_page(call: PageCall) -> web.Response:
    """Not any more."""
    await withdraw_machine_consent(call.parts, call.by, call.path("owner"))
    return go_to("/account#consents")
