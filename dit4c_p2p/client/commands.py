"""What each command does at the portal."""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from dit4c_p2p.client.api import url_path_part
from dit4c_p2p.client.errors import ClientError, NoSuchThing, NotPossible
from dit4c_p2p.client.output import local_time_text, printable_in_terminal
from dit4c_p2p.client.session import RemotePortal, open_browser

_POLL_S = 1.0
_LOG_POLL_S = 2.0
_FOLLOWED_LINES = 2000
# An image may have to be fetched first.
_START_S = 3600.0
_HEARD_S = 60.0
_ENDED = ("exited", "errored", "discarding", "discarded")
_WAITED_FOR = ("created", "waiting_for_image", "starting")


# ---- looking


async def show_whoami(options: argparse.Namespace, remote: RemotePortal) -> None:
    """Who the portal takes the token's bearer for."""
    who = await remote.api.get("whoami")
    if remote.output.is_json:
        remote.output.data({**who, "portal": remote.api.url})
        return
    rights = " as an admin" if who["admin"] else ""
    person = printable_in_terminal(f"{who['id']} ({who['name']})")
    remote.output.line(f"{person} at {remote.api.url}{rights}")


async def show_tools(options: argparse.Namespace, remote: RemotePortal) -> None:
    """What can be started."""
    found = await remote.api.get("images")
    if remote.output.is_json:
        remote.output.data(found)
        return
    rows = [
        {"tool": one["name"], "title": one["title"], "description": one["description"]}
        for one in found
    ]
    remote.output.table(rows, "There is nothing to start.")


async def list_instances(options: argparse.Namespace, remote: RemotePortal) -> None:
    """The caller's instances."""
    found = await remote.api.every("instances", **({"all": "true"} if options.all else {}))
    if remote.output.is_json:
        remote.output.data(found)
        return
    rows = [
        {
            "id": one["id"],
            "name": one["name"],
            "tool": one["image"],
            "state": one["state"].replace("_", " "),
            "created": local_time_text(one["created"]),
            "info": one["info"],
        }
        for one in found
    ]
    remote.output.table(rows, "You have no instances.")


async def show_instance(options: argparse.Namespace, remote: RemotePortal) -> None:
    """One instance, whole."""
    _print_instance(remote, await find_instance(remote, options.instance))


async def open_instance(options: argparse.Namespace, remote: RemotePortal) -> None:
    """An instance's address, and a browser with it."""
    one = await find_instance(remote, options.instance)
    if not one["url"]:
        state = one["state"].replace("_", " ")
        hint = "start it first" if "start" in one["actions"] else "try again in a moment"
        raise NotPossible(f"{one['name']} is {state}, and can't be opened", hint=hint)
    _opened_instance(remote, one, browser=not options.no_browser)


async def show_logs(options: argparse.Namespace, remote: RemotePortal) -> None:
    """The newest lines of an instance's log, and with ``follow`` those that come."""
    one = await find_instance(remote, options.instance)
    path = f"instances/{url_path_part(one['id'])}"
    # Followed lines are found again by what stands before them.
    wanted = _FOLLOWED_LINES if options.follow else options.lines
    text = await remote.api.text(f"{path}/logs", lines=str(wanted))
    if remote.output.is_json and not options.follow:
        remote.output.data({"text": text})
        return
    lines = text.splitlines()
    _print_log_lines(remote, lines[-options.lines :])
    while options.follow:
        state = (await remote.api.get(path))["state"]
        text = await remote.api.text(f"{path}/logs", lines=str(_FOLLOWED_LINES))
        now = text.splitlines()
        _print_log_lines(remote, added_log_lines(lines, now))
        lines = now
        if state in _ENDED:
            remote.output.note(f"{printable_in_terminal(one['name'])} has ended.")
            return
        await asyncio.sleep(_LOG_POLL_S)


def added_log_lines(before: list[str], now: list[str]) -> list[str]:
    """What a log's newest lines ``now`` have after ``before``, its newest lines earlier."""
    for kept in range(min(len(before), len(now)), 0, -1):
        if before[-kept:] == now[:kept]:
            return now[kept:]
    return now


# ---- acting


async def start_instance(options: argparse.Namespace, remote: RemotePortal) -> None:
    """A new instance of a tool, or a stopped one again."""
    known = {one["name"] for one in await remote.api.get("images")}
    if options.what in known:
        wanted = {"image": options.what, "name": options.name, "machine": options.machine}
        one = await remote.api.post(
            "instances", {key: text for key, text in wanted.items() if text}
        )
    else:
        try:
            one = await find_instance(remote, options.what)
        except NoSuchThing as error:
            if "no instance" not in str(error):
                raise
            names = ", ".join(sorted(known)) or "none"
            raise NoSuchThing(
                f"there is no tool and no instance called {options.what[:80]!r}",
                hint=f"tools are: {names}",
            ) from None
        if options.name or options.machine:
            raise ClientError(
                f"{one['name']} is there already, and keeps its name and its machine",
                hint="leave out --name and --machine, or use 'rename'",
            )
        one = await remote.api.post(f"instances/{url_path_part(one['id'])}/start")
    if not options.no_wait:
        one = await _started_instance(remote, one)
    if remote.output.is_json:
        remote.output.data(one)
    elif one["url"]:
        _opened_instance(remote, one, browser=options.open)
    else:
        remote.output.line(one["id"])


async def stop_instances(options: argparse.Namespace, remote: RemotePortal) -> None:
    """Stop instances."""
    await _ask_of_each_instance(options, remote, "stop", "Stopping")


async def discard_instances(options: argparse.Namespace, remote: RemotePortal) -> None:
    """Discard instances, after a question."""
    found = [await find_instance(remote, name) for name in options.instances]
    if not options.yes:
        names = ", ".join(f"{printable_in_terminal(one['name'])} ({one['id']})" for one in found)
        if not sys.stdin.isatty():
            raise ClientError("nobody is there to be asked", hint="say --yes if you mean it")
        remote.output.note(f"Everything in {names} will be deleted. This can't be undone.")
        said = await asyncio.to_thread(input, "Discard? Type yes: ")
        if said.strip().lower() != "yes":
            raise ClientError("nothing was discarded")
    await _ask_of_each_instance(options, remote, "discard", "Discarding", found)


async def rename_instance(options: argparse.Namespace, remote: RemotePortal) -> None:
    """Give an instance another name."""
    one = await find_instance(remote, options.instance)
    renamed = await remote.api.patch(
        f"instances/{url_path_part(one['id'])}", {"name": options.name}
    )
    if remote.output.is_json:
        remote.output.data(renamed)
    else:
        remote.output.note(f"{one['id']} is called {printable_in_terminal(renamed['name'])} now.")


# ---- inside


async def find_instance(remote: RemotePortal, wanted: str) -> dict[str, Any]:
    """One of the caller's instances, by its id or its name.

    :raises NoSuchThing: none, or several of the name.
    """
    found = await remote.api.every("instances")
    for one in found:
        if one["id"] == wanted:
            return dict(one)
    named = [one for one in found if one["name"] == wanted]
    if len(named) == 1:
        return dict(named[0])
    if named:
        ids = ", ".join(one["id"] for one in named)
        raise NoSuchThing(
            f"{len(named)} instances are called {wanted[:80]!r}", hint=f"give an id: {ids}"
        )
    raise NoSuchThing(f"you have no instance {wanted[:80]!r}", hint="'dit4c list' shows yours")


async def _ask_of_each_instance(
    options: argparse.Namespace,
    remote: RemotePortal,
    verb: str,
    word: str,
    found: list[dict[str, Any]] | None = None,
) -> None:
    # All are looked up before anything is done to one.
    chosen = found or [await find_instance(remote, name) for name in options.instances]
    done = [await remote.api.post(f"instances/{url_path_part(one['id'])}/{verb}") for one in chosen]
    if remote.output.is_json:
        remote.output.data(done)
        return
    for one in done:
        remote.output.note(f"{word} {printable_in_terminal(one['name'])} ({one['id']}).")


async def _started_instance(remote: RemotePortal, one: Mapping[str, Any]) -> dict[str, Any]:
    """The instance once it can be opened, with what happens until then as notes.

    :raises NotPossible: it failed, or takes too long.
    """
    began, said, moved = time.monotonic(), "", False
    while True:
        under_way = one["state"] in (*_WAITED_FOR, "running")
        moved = moved or under_way
        info = f"{one['state'].replace('_', ' ')}: {printable_in_terminal(one['info'])}"
        if info != said and not remote.output.is_json:
            remote.output.note(f"[{time.monotonic() - began:4.0f} s] {info}")
            said = info
        if one["url"]:
            return dict(one)
        # An instance that is started again is still stopped until its machine has heard of it.
        if not under_way and (moved or time.monotonic() - began > _HEARD_S):
            raise NotPossible(f"{one['name']} did not start: {one['info'].rstrip('.')}")
        if time.monotonic() - began > _START_S:
            raise NotPossible(f"{one['name']} has not started within an hour")
        await asyncio.sleep(_POLL_S)
        one = await remote.api.get(f"instances/{url_path_part(one['id'])}")


def _opened_instance(remote: RemotePortal, one: Mapping[str, Any], *, browser: bool) -> None:
    if remote.output.is_json:
        remote.output.data(one)
    else:
        remote.output.line(one["url"])
    if browser:
        open_browser(one["url"])


def _print_instance(remote: RemotePortal, one: Mapping[str, Any]) -> None:
    if remote.output.is_json:
        remote.output.data(one)
        return
    facts = {
        "Id": one["id"],
        "Name": one["name"],
        "Tool": one["image"],
        "State": one["state"].replace("_", " "),
        "Info": one["info"],
        "Address": one["url"] or "none now",
        "Created": local_time_text(one["created"]),
        "You can": ", ".join(one["actions"]) or "nothing now",
    }
    for name, value in facts.items():
        remote.output.line(f"{name:<8} {printable_in_terminal(value)}")


def _print_log_lines(remote: RemotePortal, lines: list[str]) -> None:
    # A log of an app's own, shown in a terminal: nothing in it may drive the terminal.
    clean = sys.stdout.isatty()
    for line in lines:
        remote.output.line(printable_in_terminal(line.replace("\t", "    ")) if clean else line)
