"""``dit4c person`` and ``dit4c group``: accounts, roles, limits and groups by the portal's API."""

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dit4c_p2p.admin.keys import read_admin_access
from dit4c_p2p.client.api import portal_api, url_path_part
from dit4c_p2p.client.credentials import portal_url
from dit4c_p2p.client.errors import NotLoggedIn
from dit4c_p2p.client.output import CommandOutput, local_time_text
from dit4c_p2p.client.session import RemotePortal

_HINT = "put a token with the scope admin into DIT4C_TOKEN"
_ROLES = {"read": (False, False), "write": (True, False), "manage": (True, True)}


@asynccontextmanager
async def admins_portal(
    given: str | None, data_folder: Path, environ: Mapping[str, str], form: str
) -> AsyncIterator[RemotePortal]:
    """The portal that an admin's command is about.

    :param form: of the output, ``text`` or ``json``.
    :raises ConfigError: none is known, or the token would cross a network unprotected.
    :raises NotLoggedIn: the token does not count, or is no admin's.
    """
    url, token = read_admin_access(given, data_folder, environ)
    async with portal_api(portal_url(url), token) as api:
        try:
            yield RemotePortal(api, CommandOutput(form))
        except NotLoggedIn as error:
            raise NotLoggedIn(str(error), hint=_HINT) from None


async def list_people(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Every account, or those that are like ``--find``."""
    query = {"q": options.find} if options.find else {}
    people = await portal.api.every("people", **query)
    _print(portal, people, [_person_row(one) for one in people], "There is nobody like that.")


async def show_person(options: argparse.Namespace, portal: RemotePortal) -> None:
    """One account, with the limits that count."""
    path = f"people/{url_path_part(options.person)}"
    person = await portal.api.get(path)
    limits = await portal.api.get(f"{path}/limits")
    rows = [
        {"what": name, "": text}
        for name, text in (
            ("id", person["id"]),
            ("name", person["name"]),
            ("role", _role(person)),
            ("state", person["state"]),
            ("ends", local_time_text(person["ends"])),
            ("last seen", local_time_text(person["last_seen"])),
            ("instances", _limit(limits["instances"])),
            ("instances at once", _limit(limits["instances_at_once"])),
        )
    ]
    _print(portal, {**person, "limits": limits}, rows, "")


async def invite_person(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Make an account; prints the link that logs its person in once."""
    body = {"name": options.name, "id": options.id, "admin": options.admin}
    made = await portal.api.post("people", body)
    if portal.output.is_json:
        portal.output.data(made)
        return
    portal.output.note(f"Made {made['id']}. This link logs them in once:")
    portal.output.line(made["login"]["url"])


async def change_person(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Another role, name or limits; disabled or enabled."""
    change = _limits_of(options)
    if options.role is not None:
        change["admin"] = options.role == "admin"
    if options.name is not None:
        change["name"] = options.name
    if options.state is not None:
        change["disabled"] = options.state == "disabled"
    if options.own:
        change["own"] = True
    person = await portal.api.patch(f"people/{url_path_part(options.person)}", change)
    _print(portal, person, [_person_row(person)], "")


async def list_groups(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Every group, or those that are like ``--find``."""
    query = {"q": options.find} if options.find else {}
    groups = await portal.api.every("groups", **query)
    _print(portal, groups, [_group_row(one) for one in groups], "There is no group like that.")


async def show_group(options: argparse.Namespace, portal: RemotePortal) -> None:
    """The members of a group."""
    path = f"groups/{url_path_part(options.group)}"
    group = await portal.api.get(path)
    members = await portal.api.every(f"{path}/members")
    rows = [
        {
            "person": one["person"],
            "may": "manage" if one["manage"] else "write" if one["write"] else "read",
            "name": one["name"],
        }
        for one in members
    ]
    _print(portal, {**group, "members": members}, rows, "It has no members.")


async def create_group(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Make a group without members; prints its id."""
    group = await portal.api.post("groups", {"title": options.title, "id": options.id})
    if portal.output.is_json:
        portal.output.data(group)
    else:
        portal.output.line(group["id"])


async def change_group(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Another title or limits; closed or open."""
    change = _limits_of(options)
    if options.title is not None:
        change["title"] = options.title
    if options.state is not None:
        change["closed"] = options.state == "closed"
    group = await portal.api.patch(f"groups/{url_path_part(options.group)}", change)
    _print(portal, group, [_group_row(group)], "")


async def put_member(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Put a person into a group, or change what they may do there."""
    write, manage = _ROLES[options.may]
    body = {"person": options.person, "write": write, "manage": manage}
    member = await portal.api.post(f"groups/{url_path_part(options.group)}/members", body)
    if portal.output.is_json:
        portal.output.data(member)
    else:
        portal.output.note(f"{member['person']} is in {options.group}, and may {options.may}.")


async def remove_member(options: argparse.Namespace, portal: RemotePortal) -> None:
    """Take a person out of a group."""
    group, person = url_path_part(options.group), url_path_part(options.person)
    members = await portal.api.post(f"groups/{group}/members/{person}/remove")
    if portal.output.is_json:
        portal.output.data(members)
    else:
        portal.output.note(f"{options.person} is not in {options.group} any more.")


def _print(portal: RemotePortal, data: Any, rows: list[dict[str, str]], none: str) -> None:
    if portal.output.is_json:
        portal.output.data(data)
    else:
        portal.output.table(rows, none)


def _limits_of(options: argparse.Namespace) -> dict[str, Any]:
    """The limits that a command names; ``none`` is an answer too."""
    said = {
        "instances_limit": options.instances,
        "instances_at_once_limit": options.at_once,
    }
    return {
        name: None if value == "none" else value
        for name, value in said.items()
        if value is not None
    }


def _person_row(person: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": person["id"],
        "role": _role(person),
        "state": person["state"],
        "in all": _own_limit(person["instances_limit"]),
        "at once": _own_limit(person["instances_at_once_limit"]),
        "last seen": local_time_text(person["last_seen"]),
        "name": person["name"],
    }


def _group_row(group: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": group["id"],
        "state": "closed" if group["closed"] else "open",
        "in all": _own_limit(group["instances_limit"]),
        "at once": _own_limit(group["instances_at_once_limit"]),
        "title": group["title"],
    }


def _role(person: Mapping[str, Any]) -> str:
    return "admin" if person["admin"] else "user"


def _own_limit(number: int | None) -> str:
    return "-" if number is None else str(number)


def _limit(limit: Mapping[str, Any]) -> str:
    return f"{limit['number']} ({limit['of']})"
