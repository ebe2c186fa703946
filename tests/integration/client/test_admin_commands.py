"""``dit4c person`` and ``dit4c group`` against a real portal."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from dit4c_p2p.cli import main

# What is tested is the command line; the database makes no difference.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@dataclass
class Done:
    """How a command has ended."""

    status: Any
    out: str
    notes: str

    @property
    def json(self):
        return json.loads(self.out)


def exit_status(*arguments):
    try:
        return main(arguments)
    except SystemExit as wrong:
        return wrong.code


@pytest.fixture
def admin(work, monkeypatch, capsys):
    """Run a command as an admin, which has to end with that status."""

    async def run(*arguments, status=0, token=work.token, portal=work.url):
        monkeypatch.setenv("DIT4C_TOKEN", token)
        ended = await asyncio.to_thread(exit_status, *arguments, "--portal", portal)
        done = Done(ended, *capsys.readouterr())
        assert done.status == status, done.notes
        return done

    return run


async def test_people_with_roles_and_limits(work, admin):
    made = await admin("person", "invite", "Grace Hopper", "--id", "grace")
    assert made.out.startswith(f"{work.url}/login")
    limited = await admin("person", "set", "grace", "--instances", "3", "--role", "admin")
    assert re.search(r"grace +admin +invited +3 +- ", limited.out)
    shown = (await admin("person", "show", "grace", "-o", "json")).json
    assert (shown["admin"], shown["limits"]["instances"]["number"]) == (True, 3)
    assert re.search(r"instances +3 \(", (await admin("person", "show", "grace")).out)
    await admin("person", "set", "grace", "--instances", "none", "--role", "user")
    found = (await admin("person", "list", "--find", "grac", "-o", "json")).json
    assert [(one["admin"], one["instances_limit"]) for one in found] == [(False, None)]
    await admin("person", "set", "grace", "--state", "disabled", "--name", "Rear Admiral")
    assert re.search(r"grace +user +disabled .*Rear Admiral", (await admin("person", "list")).out)


async def test_groups_with_members_and_limits(work, admin):
    await work.person("grace")
    assert (await admin("group", "create", "Soil", "--id", "soil")).out == "soil\n"
    await admin("group", "add", "soil", "grace", "--may", "write")
    assert re.search(r"grace +write +", (await admin("group", "show", "soil")).out)
    changed = await admin("group", "set", "soil", "--at-once", "2", "--state", "closed")
    assert re.search(r"soil +closed +- +2 +Soil", changed.out)
    await admin("group", "remove", "soil", "grace")
    assert "no members" in (await admin("group", "show", "soil")).notes
    assert "soil" in (await admin("group", "list")).out


async def test_each_error_says_what_to_do_with_the_exit_code_of_its_kind(work, admin):
    theirs = await work.person("max")
    for token in (theirs, "wrong"):
        refused = await admin("person", "list", status=3, token=token)
        assert "into DIT4C_TOKEN" in refused.notes
        assert refused.out == ""
    assert (await admin("person", "show", "nobody", status=4)).out == ""
    own = await admin("person", "set", "admin", "--role", "user", status=1)
    assert "own is true" in own.notes
    last = await admin("person", "set", "admin", "--role", "user", "--own", status=5)
    assert "admin" in last.notes
    unusable = await admin("person", "set", "max", "--instances", "-1", status=2)
    assert "0 to 10000" in unusable.notes
    await admin("person", "list", status=1, portal="http://p.example.org")
