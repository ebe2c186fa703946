"""News that a person's access has ended, on a clock of the test's own."""

import asyncio

import pytest

from dit4c_p2p.helpers.auth import sessions as sessions_module
from dit4c_p2p.helpers.auth.sessions import AppSessions


class Portal:
    """Answers what the test says; until ``go`` is set, it does not answer at all."""

    def __init__(self):
        self.active: dict[str, bool | None] = {}
        self.go = asyncio.Event()
        self.go.set()
        self.asked = []

    async def is_active(self, token):
        self.asked.append(token)
        answer = self.active.get(token, True)
        await self.go.wait()
        return answer


class Terminal:
    was_cut = False

    def cut(self):
        self.was_cut = True


@pytest.fixture
def portal():
    return Portal()


@pytest.fixture
async def sessions(portal, monkeypatch):
    monkeypatch.setattr(sessions_module, "DOUBT_LIMIT_S", 0.2)
    monkeypatch.setattr(sessions_module, "_DOUBT_RETRY_S", 0.05)
    sessions = AppSessions(portal.is_active)
    running = asyncio.create_task(sessions.run())
    yield sessions
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def begin(sessions, person, token):
    value, _ = sessions.start(person, token, 3600)
    session, terminal = sessions.find(value), Terminal()
    session.open.add(terminal)
    return value, session, terminal


async def until(done):
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.01)


async def test_who_was_logged_out_is_cut_and_others_are_not(sessions, portal):
    out, _, cut = begin(sessions, "ada", "ended")
    stays, kept, open_ = begin(sessions, "ada", "another browser's")
    other, theirs, untouched = begin(sessions, "grace", "g")
    portal.active["ended"] = False
    sessions.doubt("ada", 100.0)
    assert kept.doubted and not theirs.doubted and not sessions.use(kept)
    await until(lambda: cut.was_cut and not kept.doubted)
    assert sessions.find(out) is None
    assert sessions.find(stays) is kept and sessions.use(kept) and not open_.was_cut
    assert sessions.find(other) is theirs and not untouched.was_cut
    assert "g" not in portal.asked


@pytest.mark.parametrize("silence", ["refuses", "hangs"])
async def test_nothing_passes_until_the_portal_has_said_yes(sessions, portal, silence):
    value, session, terminal = begin(sessions, "ada", "t")
    portal.active["t"] = None
    if silence == "hangs":
        portal.go.clear()
    sessions.doubt("ada", 100.0)
    assert not await sessions.confirm(session) and not session.ended
    await until(lambda: terminal.was_cut)
    assert sessions.find(value) is session and not sessions.use(session)
    portal.active["t"] = True
    portal.go.set()
    await until(lambda: not session.doubted)
    assert await sessions.confirm(session) and sessions.use(session)


async def test_an_answer_from_before_the_news_does_not_count(sessions, portal):
    _, session, terminal = begin(sessions, "ada", "t")
    portal.go.clear()
    sweep = asyncio.create_task(sessions.sweep())  # asks; the portal says yes, which takes a while
    await until(lambda: portal.asked == ["t"])
    portal.active["t"] = False
    sessions.doubt("ada", 100.0)
    portal.go.set()
    await sweep
    await until(lambda: session.ended and terminal.was_cut)


async def test_old_news_counts_once(sessions, portal):
    _, session, _ = begin(sessions, "ada", "t")
    sessions.doubt("ada", 100.0)
    await until(lambda: not session.doubted)
    asked = len(portal.asked)
    for at in (100.0, 99.0):  # told again, as after a reconnect
        sessions.doubt("ada", at)
        assert not session.doubted
    assert len(portal.asked) == asked
    sessions.doubt("ada", 101.0)
    assert session.doubted


async def test_a_session_whose_grant_the_news_overtook_is_asked_about_first(sessions, portal):
    sessions.doubt("ada", 100.0)
    portal.active["late"] = False
    value, session, terminal = begin(sessions, "ada", "late")
    assert not await sessions.confirm(session)
    assert terminal.was_cut and sessions.find(value) is None


async def test_without_news_a_silent_portal_ends_nothing(sessions, portal):
    value, session, terminal = begin(sessions, "ada", "t")
    portal.active["t"] = None
    session.checked -= 1000
    for hangs in (False, True):
        if hangs:
            portal.go.clear()
            session.checked -= 1000
        assert await sessions.confirm(session)
        await asyncio.wait({asyncio.create_task(sessions.sweep())}, timeout=0.3)
    assert sessions.find(value) is session and not terminal.was_cut


async def test_a_new_session_is_asked_about_by_the_first_sweep(sessions, portal):
    _, session, terminal = begin(sessions, "ada", "t")
    portal.active["t"] = False
    await sessions.sweep()
    assert session.ended and terminal.was_cut
