"""``/admin/people``: accounts and their login links; admins only."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import web

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.portal.accounts import groups, people
from dit4c_p2p.portal.accounts.limits import limits_of_person
from dit4c_p2p.portal.accounts.people import AccountChange
from dit4c_p2p.portal.api.people import (
    limits_view,
    person_view,
)
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import Instance, Person
from dit4c_p2p.portal.pages.forms import day_of, end_of_day, go_to
from dit4c_p2p.portal.pages.limits import limit_fields, limits_in
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import LoginLinkView
from dit4c_p2p.portal.services.deletion import delete_person
from dit4c_p2p.portal.services.people import change_person, create_person_link, invite_person

_COLUMNS = {
    "name": ("name", "id"),
    "role": ("is_admin", "id"),
    "seen": ("seen_at", "id"),
    "ends": ("ends_at", "id"),
    "created": ("created_at", "id"),
}
_HOUR_S = 3600
# Of the people of the same name, whom an admin may have invited before.
_NAMESAKES = 5
# What the forms offer; the longest that the API takes is a month.
_LINK_HOURS = {"24": "1 day", "72": "3 days", "168": "1 week", "720": "30 days"}
_USUAL_LINK_HOURS = "168"
_NEW = {"name": "", "id": "", "admin": "", "ends": "", "link_hours": _USUAL_LINK_HOURS}
# Whoever has an account is waiting for the link.
_NEXT_LINK_HOURS = "24"


def people_page_routes() -> list[web.RouteDef]:
    """The list, inviting, one person and what can be done."""
    one = "/admin/people/{id}"
    return [
        web.get("/admin/people", page_handler(everybody_on_people_page, admins=True)),
        web.post(
            "/admin/people",
            form_handler(invite_on_people_page, again=everybody_on_people_page, admins=True),
        ),
        web.get(one, page_handler(somebody_on_people_page, admins=True)),
        web.post(
            f"{one}/login-link",
            form_handler(make_link_on_people_page, again=somebody_on_people_page, admins=True),
        ),
        web.post(
            f"{one}/end",
            form_handler(
                change_end_on_people_page,
                again=somebody_on_people_page,
                admins=True,
                done="The last day is changed.",
            ),
        ),
        web.post(
            f"{one}/name",
            form_handler(
                rename_on_people_page, again=somebody_on_people_page, admins=True, done="Renamed."
            ),
        ),
        web.post(
            f"{one}/limits",
            form_handler(
                change_limits_on_people_page,
                again=somebody_on_people_page,
                admins=True,
                done="The limits are changed.",
            ),
        ),
        web.get(f"{one}/role", page_handler(confirm_role_on_people_page, admins=True)),
        web.post(
            f"{one}/role",
            form_handler(
                change_role_on_people_page,
                again=confirm_role_on_people_page,
                admins=True,
                done="The role is changed.",
            ),
        ),
        web.get(f"{one}/delete", page_handler(confirm_delete_on_people_page, admins=True)),
        web.post(
            f"{one}/delete",
            form_handler(
                delete_on_people_page,
                again=confirm_delete_on_people_page,
                admins=True,
                done="The account is deleted; files and images follow within minutes.",
            ),
        ),
        web.get(f"{one}/disable", page_handler(confirm_disable_on_people_page, admins=True)),
        web.post(
            f"{one}/disable",
            form_handler(
                disable_on_people_page,
                again=confirm_disable_on_people_page,
                admins=True,
                done="Disabled.",
            ),
        ),
        web.post(
            f"{one}/enable",
            form_handler(
                enable_on_people_page, again=somebody_on_people_page, admins=True, done="Enabled."
            ),
        ),
    ]


async def everybody_on_people_page(call: PageCall) -> web.Response:
    """Show the accounts, the newest first, and the form to invite a person."""
    now = call.parts.clock()
    listing = Listing.asked(call, "/admin/people", _COLUMNS, usual="-created")
    found = await listing.rows(people.search_people(listing.wanted, now=now))
    return call.page(
        "admin_people.html",
        people=[person_view(person, now) for person in found],
        listing=listing,
        form={**_NEW, **call.form},
        link_hours=_LINK_HOURS,
        today=day_of(now),
    )


async def invite_on_people_page(call: PageCall) -> web.Response:
    """Create an account; its link is shown once."""
    form = call.form
    person, login = await invite_person(
        call.parts,
        by=call.by,
        name=form.get("name", ""),
        id=form.get("id", "").strip(),
        is_admin=form.get("admin") == "1",
        ends_at=_end_for_people_page(form),
        link_s=_link_s_for_people_page(form),
    )
    same = Person.filter(name=person.name, deleted_at=None).exclude(id=person.id)
    others = [one.id for one in await same.order_by("id").limit(_NAMESAKES)]
    return _link_page_for_people_page(call, person, login, invited=True, others=others)


async def somebody_on_people_page(call: PageCall) -> web.Response:
    """Show one person; entered values stay in the forms."""
    person, now = await people.get_person(call.path("id")), call.parts.clock()
    kept = {
        "ends": _end_day_for_people_page(person.ends_at),
        "link_hours": _NEXT_LINK_HOURS,
        "name": person.name,
        **limit_fields(person),
    }
    return call.page(
        "admin_person.html",
        person=person_view(person, now),
        limits=limits_view(await limits_of_person(person.id, call.parts.config.limits)),
        groups=[member.group for member in await groups.memberships_of_person(person.id)],
        running=await _running_for_people_page(person),
        form={**kept, **call.form},
        link_hours=_LINK_HOURS,
        today=day_of(now),
    )


async def make_link_on_people_page(call: PageCall) -> web.Response:
    """Create another link, which is shown once."""
    id = call.path("id")
    login = await create_person_link(
        call.parts, id, link_s=_link_s_for_people_page(call.form), by=call.by
    )
    return _link_page_for_people_page(call, await people.get_person(id), login, invited=False)


async def change_end_on_people_page(call: PageCall) -> web.Response:
    """Change or remove the end date."""
    return await _change_for_people_page(
        call, AccountChange(ends_at=_end_for_people_page(call.form))
    )


async def rename_on_people_page(call: PageCall) -> web.Response:
    """Give the person another name; the id stays."""
    return await _change_for_people_page(call, AccountChange(name=call.form.get("name", "")))


async def change_limits_on_people_page(call: PageCall) -> web.Response:
    """Choose or remove the person's own limits."""
    return await _change_for_people_page(call, AccountChange(limits=limits_in(call.form)))


async def confirm_role_on_people_page(call: PageCall) -> web.Response:
    """Ask for confirmation, with the consequences of another role."""
    person = await people.get_person(call.path("id"))
    return call.page("change_role.html", person=person_view(person, call.parts.clock()))


async def change_role_on_people_page(call: PageCall) -> web.Response:
    """Make the person an admin or a user."""
    role = call.form.get("role", "")
    if role not in ("admin", "user"):
        raise BadRequest("a person is an admin or a user", field="role")
    return await _change_for_people_page(call, AccountChange(is_admin=role == "admin"))


async def confirm_delete_on_people_page(call: PageCall) -> web.Response:
    """Ask for confirmation, with what becomes of everything that the person has."""
    person = await people.get_person(call.path("id"))
    instances = Instance.filter(owner_id=person.id).exclude(state__in=list(FINAL))
    return call.page(
        "delete_person.html",
        person=person_view(person, call.parts.clock()),
        instances=await instances.count(),
        preserved=await instances.filter(state=State.UPLOADED).count(),
        keys=len(await call.parts.user_keys.of(person.id)),
        groups=[member.group for member in await groups.memberships_of_person(person.id)],
        form={"confirm": "", **call.form},
    )


async def delete_on_people_page(call: PageCall) -> web.Response:
    """The answer "yes": the id once more.

    :raises BadRequest: another id, or one's own account without the box ticked.
    """
    id = call.path("id")
    if call.form.get("confirm", "").strip() != id:
        raise BadRequest("this is not the person’s id", field="confirm", hint=f"it is {id}")
    await delete_person(call.parts, id, by=call.by, own=call.form.get("own") == "1")
    return go_to("/admin/people")


async def confirm_disable_on_people_page(call: PageCall) -> web.Response:
    """Ask for confirmation, with the consequences of disabling."""
    person = await people.get_person(call.path("id"))
    return call.page(
        "disable.html",
        person=person_view(person, call.parts.clock()),
        running=await _running_for_people_page(person),
    )


async def disable_on_people_page(call: PageCall) -> web.Response:
    """The answer "yes". Disabling oneself takes a ticked box as well: only others can undo it."""
    return await _change_for_people_page(call, AccountChange(disabled=True))


async def enable_on_people_page(call: PageCall) -> web.Response:
    """Enable the account; the person logs in by a new link."""
    return await _change_for_people_page(call, AccountChange(disabled=False))


async def _change_for_people_page(call: PageCall, wanted: AccountChange) -> web.Response:
    id = call.path("id")
    own = call.form.get("own") == "1"
    await change_person(call.parts, id, wanted, by=call.by, own=own)
    if id == call.by and wanted.shuts_out:
        return go_to("/")
    return go_to(f"/admin/people/{id}")


def _link_page_for_people_page(
    call: PageCall,
    person: Person,
    login: LoginLinkView,
    *,
    invited: bool,
    others: Sequence[str] = (),
) -> web.Response:
    view = person_view(person, call.parts.clock())
    return call.page("admin_link.html", person=view, login=login, invited=invited, others=others)


async def _running_for_people_page(person: Person) -> int:
    """How many instances the person has."""
    return await Instance.filter(owner_id=person.id).exclude(state__in=list(FINAL)).count()


def _end_for_people_page(form: Mapping[str, str]) -> float | None:
    """When the account that the form is about ends; see :func:`end_of_day`."""
    return end_of_day(form.get("ends", ""), field="ends")


def _end_day_for_people_page(ends_at: float | None) -> str:
    """The last day of an account, as a form's field has it."""
    return "" if ends_at is None else datetime.fromtimestamp(ends_at - 1, UTC).date().isoformat()


def _link_s_for_people_page(form: Mapping[str, str]) -> float:
    hours = form.get("link_hours", _USUAL_LINK_HOURS)
    if hours not in _LINK_HOURS:
        raise BadRequest("a link lasts for one of the times offered", field="link_hours")
    return int(hours) * _HOUR_S
