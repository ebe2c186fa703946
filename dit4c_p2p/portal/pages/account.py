"""``/account``: what lets oneself in, and an end to each of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.portal.accounts import api_tokens, groups, people
from dit4c_p2p.portal.api.checkpoints import choose_checkpoint_interval
from dit4c_p2p.portal.api.people import (
    new_api_token,
    person_view,
    token_view,
)
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.keys.user_keys import openssh_fingerprint
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.pages.checkpoints import chosen_interval, interval_text, intervals
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.login import login_ways
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import LoginLinkView, NewTokenView, time_or_none, time_text
from dit4c_p2p.portal.services.people import create_person_link, end_person_token
from dit4c_p2p.portal.services.user_keys import (
    add_ssh_key_of_person,
    find_ssh_key_of_person,
    remove_ssh_key_of_person,
)
from dit4c_p2p.portal.storage import consent
from dit4c_p2p.portal.storage.files import sftp_command
from dit4c_p2p.portal.storage.schemas import consent_view, group_view, key_view

# What each scope's box is called in the form.
_SCOPES = {"instances:read": "read", "instances:write": "write", "admin": "admin"}
_DAYS = {"7": "1 week", "30": "30 days", "90": "90 days", "366": "1 year"}
# A link for another browser is opened at once, on a desk or across it.
_OWN_LINK_S = 3600.0
_NEW = {
    "label": "",
    "days": "90",
    "read": "1",
    "write": "1",
    "admin": "",
    "line": "",
    "key_name": "",
}

_TOKENS = {
    "label": ("label", "id"),
    "used": ("last_used", "id"),
    "ends": ("expires", "id"),
    "made": ("created", "id"),
}
_TOKENS_SHOWN = 20


def account_page_routes() -> list[web.RouteDef]:
    """The page and its buttons."""
    return [
        web.get("/account", page_handler(show_account_page)),
        web.post(
            "/account/sessions/{session}/end",
            form_handler(end_session_on_account_page, done="That browser is logged out."),
        ),
        web.post(
            "/account/login-link", form_handler(make_link_on_account_page, again=show_account_page)
        ),
        web.post(
            "/account/checkpoints",
            form_handler(set_checkpoints_on_account_page, again=show_account_page),
        ),
        web.post(
            "/account/tokens", form_handler(make_token_on_account_page, again=show_account_page)
        ),
        web.post(
            "/account/tokens/{token}/revoke",
            form_handler(revoke_token_on_account_page, done="The token is revoked."),
        ),
        web.post(
            "/account/ssh-keys",
            form_handler(add_ssh_key, again=show_account_page, done="The key is added."),
        ),
        web.get("/account/ssh-keys/{fingerprint}/remove", page_handler(confirm_remove_ssh_key)),
        web.post(
            "/account/ssh-keys/{fingerprint}/remove",
            form_handler(remove_ssh_key, done="The key is removed."),
        ),
    ]


async def show_account_page(
    call: PageCall, made: NewTokenView | None = None, link: LoginLinkView | None = None
) -> web.Response:
    """One's own browsers, tokens, SSH keys and groups; what was typed stays in the form.

    :param made: a token that is shown this one time.
    :param link: a link for another browser, shown this one time.
    """
    now = call.parts.clock()
    listing = Listing.asked(call, "/account", _TOKENS, usual="-made", size=_TOKENS_SHOWN)
    await call.parts.registry.write_seen()
    return call.page(
        "account.html",
        person=person_view(await people.get_person(call.by), now),
        sessions=[
            {
                "id": public_id(one.digest),
                "browser": one.browser or "A browser or a program",
                "since": time_text(one.created_at),
                "used": time_text(one.used_at),
                "this": one.digest == call.session.digest,
            }
            for one in await call.parts.sessions.of(call.by)
        ],
        tokens=listing.items(
            [
                {
                    "view": token_view(token),
                    "over": token.expires_at is not None and token.expires_at <= now,
                }
                for token in await api_tokens.tokens_of_person(call.by)
            ],
            key=lambda one, name: getattr(one["view"], name),
            text=lambda one: " ".join([one["view"].label, *one["view"].scopes]),
        ),
        listing=listing,
        keys=[key_view(key) for key in await call.parts.user_keys.of(call.by)],
        groups=[
            {"view": group_view(member.group), "write": member.writes, "manage": member.manages}
            for member in await groups.memberships_of_person(call.by)
        ],
        servers=await _file_servers_for_account_page(call),
        consents=[consent_view(one) for one in await consent.given_by(call.by)],
        days=_DAYS,
        form={**_NEW, **_typed_for_account_page(call.form)},
        made=made,
        link=link,
        passkeys=[
            {
                "id": public_id(one.digest),
                "name": one.name,
                "since": time_text(one.created_at),
                "used": time_or_none(one.used_at),
            }
            for one in await call.parts.passkeys.of(call.by)
        ],
        identities=[
            {
                "id": public_id(one.digest),
                "provider": call.parts.provider_logins.name_of(one.provider),
                "label": one.label,
                "used": time_or_none(one.used_at),
            }
            for one in await call.parts.identities.of(call.by)
        ],
        providers=login_ways(call.request)["providers"],
        passkeys_offered=call.parts.passkeys.offered,
        done=call.request.query.get("done", ""),
        saves=bool(call.parts.config.imageservers),
        intervals=intervals("as usual here", call.parts.config.limits.checkpoint_minutes),
        interval=interval_text((await people.get_person(call.by)).checkpoint_minutes),
    )


async def set_checkpoints_on_account_page(call: PageCall) -> web.Response:
    """How often checkpoints of one's instances are made."""
    await choose_checkpoint_interval(call.by, chosen_interval(call))
    return go_to("/account#checkpoints")


def _typed_for_account_page(form: Mapping[str, str]) -> Mapping[str, str]:
    """What was typed into the form for a token, of which a box that is not ticked says nothing."""
    return {**dict.fromkeys(_SCOPES.values(), ""), **form} if "label" in form else form


async def end_session_on_account_page(call: PageCall) -> web.Response:
    """Log another browser out, or this one."""
    await call.parts.sessions.end_one(call.by, call.path("session"))
    return go_to("/account")


async def make_link_on_account_page(call: PageCall) -> web.Response:
    """Make a link that logs another browser in; it is shown this one time."""
    link = await create_person_link(call.parts, call.by, link_s=_OWN_LINK_S, by=call.by)
    return await show_account_page(replace(call, form={}), link=link)


async def make_token_on_account_page(call: PageCall) -> web.Response:
    """A token for programs; its text is shown this one time."""
    form = call.form
    if form.get("days") not in _DAYS:
        raise BadRequest("a token lasts for one of the times offered", field="days")
    made = await new_api_token(
        call.parts,
        call.by,
        label=form.get("label", ""),
        scopes=frozenset(scope for scope, name in _SCOPES.items() if form.get(name) == "1"),
        days=int(form["days"]),
    )
    return await show_account_page(replace(call, form={}), made)


async def revoke_token_on_account_page(call: PageCall) -> web.Response:
    """End one of one's own tokens."""
    await end_person_token(call.parts, call.by, call.path("token"))
    return go_to("/account")


async def add_ssh_key(call: PageCall) -> web.Response:
    """One more SSH key of one's own; it is pending until its first login."""
    form = call.form
    await add_ssh_key_of_person(
        call.parts, call.by, line=form.get("line", ""), label=form.get("key_name", "")
    )
    return go_to("/account#keys")


async def confirm_remove_ssh_key(call: PageCall) -> web.Response:
    """What removing a key means, before it is done."""
    key = await find_ssh_key_of_person(call.parts, call.by, call.path("fingerprint"))
    return call.page("remove_ssh_key.html", key=key_view(key))


async def remove_ssh_key(call: PageCall) -> web.Response:
    """The answer "yes"."""
    await remove_ssh_key_of_person(call.parts, call.by, call.path("fingerprint"), by=call.by)
    return go_to("/account#keys")


async def _file_servers_for_account_page(call: PageCall) -> list[dict[str, Any]]:
    """The file servers that have files of the person or of their groups.

    Each with the line that leads there, and the fingerprints that OpenSSH shows the first time.
    """
    homes = {folder.server for folder in await call.parts.grants.folders_of(call.by)}
    found = []
    for server in call.parts.public.fileservers:
        name = PeerName.parse(server.name)
        if name.id in homes:
            keys = await call.parts.registry.in_force(name)
            fingerprints = [openssh_fingerprint(fingerprint(key)) for key in keys]
            command = sftp_command(server, call.by)
            found.append({"name": server.name, "command": command, "fingerprints": fingerprints})
    return found
