"""Passkeys: made on the account page, logged in with, and every wrong answer."""

import pytest
from fakes.authenticator import PRESENT, Authenticator
from systems.portal import hidden_fields

from dit4c_p2p.portal.models import Passkey, Person, Session


async def logged_in(work, browser, person="admin") -> str:
    """Log a browser in by a link; its form token."""
    await browser.log_in(await work.login_link(person))
    return hidden_fields((await browser.get("/account")).text)["csrf"]


async def send(work, browser, path, body, *, origin=""):
    """JSON as the page's script sends it."""
    headers = {"Origin": origin or work.url, "Accept": "application/json"}
    return await browser.post(path, json=body, headers=headers)


async def begin_creation(work, browser, csrf):
    answer = await send(work, browser, "/account/passkeys/options", {"csrf": csrf})
    assert answer.status == 200, answer.text
    return answer.json


async def begin_login(work, browser):
    answer = await send(work, browser, "/passkeys/login/options", {})
    assert answer.status == 200, answer.text
    return answer.json


async def made(work, browser, csrf) -> Authenticator:
    """A passkey of whoever is logged in."""
    device = Authenticator("localhost", work.url)
    begun = await begin_creation(work, browser, csrf)
    body = {"csrf": csrf, "attempt": begun["attempt"]}
    body["credential"] = device.create(begun["options"])
    answer = await send(work, browser, "/account/passkeys", body)
    assert answer.status == 201, answer.text
    return device


async def answered(work, browser, begun, credential):
    body = {"attempt": begun["attempt"], "credential": credential}
    return await send(work, browser, "/passkeys/login", body)


async def log_in(work, browser, device):
    begun = await begin_login(work, browser)
    return await answered(work, browser, begun, device.get(begun["options"]))


@pytest.mark.both_databases
async def test_with_nothing_but_a_passkey_a_person_is_back_after_a_month(work):
    await work.person("eve")
    async with work.browser() as browser, work.browser() as other:
        device = await made(work, browser, await logged_in(work, browser, "eve"))
        work.clock.ahead = 31 * 24 * 3600
        assert (await browser.get("/")).status == 401, "the session is over"
        answer = await log_in(work, other, device)
        assert (answer.status, answer.json) == (200, {"after": ""})
        page = await other.get("/account")
        assert "eve" in page.text
        assert "last used" in page.text
        (session,) = await Session.filter(person_id="eve", used_at__gt=work.clock() - 60)
        assert other.cookies[f"__Host-dit4c-{work.port}"] not in str(session.__dict__)


async def test_a_login_takes_the_place_of_the_session_before(work):
    async with work.browser() as browser:
        device = await made(work, browser, await logged_in(work, browser))
        before = dict(browser.cookies)
        assert (await log_in(work, browser, device)).status == 200
        after, browser.cookies = browser.cookies, before
        assert (await browser.get("/")).status == 401
        browser.cookies = after
        assert (await browser.get("/")).status == 200


async def test_options_ask_for_a_discoverable_verified_credential_of_exactly_this_host(work):
    async with work.browser() as browser:
        csrf = await logged_in(work, browser)
        await made(work, browser, csrf)
        options = (await begin_creation(work, browser, csrf))["options"]
        assert options["rp"]["id"] == "localhost"
        assert options["authenticatorSelection"]["residentKey"] == "required"
        assert options["authenticatorSelection"]["userVerification"] == "required"
        assert options["attestation"] == "none"
        assert len(options["excludeCredentials"]) == 1
        assert "admin" not in options["user"]["id"]
        login = (await begin_login(work, browser))["options"]
        assert login["rpId"] == "localhost"
        assert login["userVerification"] == "required"
        assert not login.get("allowCredentials"), "who has passkeys here is not told"


async def test_a_passkey_is_added_soon_after_logging_in_only(work):
    """Whoever finds a browser that was left open makes no way in that lasts."""
    async with work.browser() as browser:
        csrf = await logged_in(work, browser)
        assert "Come back without a link" in (await browser.get("/")).text
        work.clock.ahead = 31 * 60
        late = await send(work, browser, "/account/passkeys/options", {"csrf": csrf})
        assert (late.status, "log in again" in late.json["detail"]) == (403, True)
        assert "Come back without a link" not in (await browser.get("/")).text
        csrf = await logged_in(work, browser)
        await made(work, browser, csrf)


WRONG_CREATIONS = {
    "another site's page": lambda device, options: device.create(
        options, origin="http://evil.example"
    ),
    "another port": lambda device, options: device.create(options, origin="http://localhost"),
    "inside another site's frame": lambda device, options: device.create(options, crossOrigin=True),
    "another challenge": lambda device, options: device.create({**options, "challenge": "AAAA"}),
    "an answer to a login": lambda device, options: device.create(options, type="webauthn.get"),
    "nothing": lambda device, options: {},
    "no response": lambda device, options: {**device.create(options), "response": None},
    "garbage": lambda device, options: {
        **device.create(options),
        "response": {"clientDataJSON": "e30", "attestationObject": "oWNmbXRkbm9uZQ"},
    },
}


@pytest.mark.parametrize("wrong", WRONG_CREATIONS)
async def test_a_wrong_creation_is_refused(work, wrong):
    async with work.browser() as browser:
        csrf = await logged_in(work, browser)
        device = Authenticator("localhost", work.url)
        begun = await begin_creation(work, browser, csrf)
        body = {"csrf": csrf, "attempt": begun["attempt"]}
        body["credential"] = WRONG_CREATIONS[wrong](device, begun["options"])
        answer = await send(work, browser, "/account/passkeys", body)
        assert answer.status == 400, answer.text
        assert await Passkey.all().count() == 0


async def test_a_creation_is_its_persons_browsers_and_sessions_own(work):
    await work.person("eve")
    async with work.browser() as browser, work.browser() as other:
        csrf, others = await logged_in(work, browser), await logged_in(work, other, "eve")
        device = Authenticator("localhost", work.url)
        begun = await begin_creation(work, browser, csrf)
        body = {"attempt": begun["attempt"], "credential": device.create(begun["options"])}
        for sender, token, origin, status in (
            (other, others, "", 400),  # it has not the attempt's cookie
            (browser, "guess", "", 403),
            (browser, csrf, "http://evil.example", 403),
            (browser, csrf, "null", 403),
            (browser, csrf, "", 201),
            (browser, csrf, "", 400),  # once
        ):
            answer = await send(
                work, sender, "/account/passkeys", {**body, "csrf": token}, origin=origin
            )
            assert answer.status == status, answer.text
        # The same cookie in the hands of somebody else who is logged in.
        begun = await begin_creation(work, browser, csrf)
        name = f"__Host-dit4c-attempt-{begun['attempt']}-{work.port}"
        other.cookies[name] = browser.cookies[name]
        again = Authenticator("localhost", work.url)
        body = {"csrf": others, "attempt": begun["attempt"]}
        body["credential"] = again.create(begun["options"])
        assert (await send(work, other, "/account/passkeys", body)).status == 400
        # A credential that is somebody's stays theirs.
        begun = await begin_creation(work, other, others)
        body = {"csrf": others, "attempt": begun["attempt"]}
        body["credential"] = device.create(begun["options"])
        taken = await send(work, other, "/account/passkeys", body)
        assert taken.status == 409
        assert [one.person_id for one in await Passkey.all()] == ["admin"]


async def test_without_a_session_no_passkey_is_made(work):
    async with work.browser() as browser:
        answer = await send(work, browser, "/account/passkeys/options", {"csrf": "x"})
        assert answer.status == 401


def _not_verified(device, options):
    device.flags = PRESENT
    return device.get(options)


def _copied(device, options):
    device.count = 0
    return device.get(options)


def _other_party(device, options):
    device.party = "evil.example"
    return device.get(options)


def _other_person(device, options):
    device.handle = b"somebody else"
    return device.get(options)


def _other_key(device, options):
    stranger = Authenticator(device.party, device.origin)
    stranger.id, stranger.handle, stranger.count = device.id, device.handle, device.count
    return stranger.get(options)


WRONG_LOGINS = {
    "another site's page": lambda device, options: device.get(
        options, origin="https://localhost.evil.example"
    ),
    "inside another site's frame": lambda device, options: device.get(options, crossOrigin=True),
    "another challenge": lambda device, options: device.get({**options, "challenge": "AAAA"}),
    "a creation": lambda device, options: device.get(options, type="webauthn.create"),
    "another relying party": _other_party,
    "nobody verified": _not_verified,
    "a copy that has counted less": _copied,
    "another person's handle": _other_person,
    "another key": _other_key,
    "nothing": lambda device, options: {},
    "an id of another type": lambda device, options: {**device.get(options), "id": 7},
    "no user handle": lambda device, options: {
        **device.get(options),
        "response": {**device.get(options)["response"], "userHandle": None},
    },
    "garbage": lambda device, options: {
        **device.get(options),
        "response": {"clientDataJSON": "e30", "authenticatorData": "AA", "signature": "AA"},
    },
}


@pytest.mark.parametrize("wrong", WRONG_LOGINS)
async def test_a_wrong_login_is_refused(work, wrong):
    async with work.browser() as browser, work.browser() as other:
        device = await made(work, browser, await logged_in(work, browser))
        assert (await log_in(work, other, device)).status == 200
        other.cookies.clear()
        begun = await begin_login(work, other)
        credential = WRONG_LOGINS[wrong](device, begun["options"])
        answer = await answered(work, other, begun, credential)
        assert answer.status == 400, answer.text
        assert (await other.get("/")).status == 401


async def test_an_answer_counts_once_in_the_browser_that_asked_and_in_time(work):
    async with work.browser() as browser, work.browser() as one, work.browser() as two:
        device = await made(work, browser, await logged_in(work, browser))
        begun = await begin_login(work, one)
        credential = device.get(begun["options"])
        stolen = await answered(work, two, begun, credential)
        assert (stolen.status, stolen.json["code"]) == (400, "attempt_over")
        kept = dict(one.cookies)
        assert (await answered(work, one, begun, credential)).status == 200
        two.cookies = kept
        again = await answered(work, two, begun, credential)
        assert again.status == 400, "with the cookie of an attempt that is finished"
        late = await begin_login(work, two)
        credential = device.get(late["options"])
        work.clock.ahead = 601
        answer = await answered(work, two, late, credential)
        assert (answer.status, answer.json["code"]) == (400, "attempt_over")
        body = {"attempt": "../../x", "credential": credential}
        assert (await send(work, two, "/passkeys/login", body)).status == 400


async def test_a_passkey_that_is_gone_or_whose_person_is_lets_nobody_in(work):
    await work.person("eve")
    async with work.browser() as browser, work.browser() as other, work.api() as api:
        csrf = await logged_in(work, browser, "eve")
        device = await made(work, browser, csrf)
        await api.request("PATCH", "people/eve", json={"disabled": True})
        closed = await log_in(work, other, device)
        assert (closed.status, closed.json["code"]) == (403, "account_closed")
        await api.request("PATCH", "people/eve", json={"disabled": False})
        assert (await log_in(work, other, device)).status == 200
        (row,) = await Passkey.all()
        csrf = hidden_fields((await other.get("/account")).text)["csrf"]
        path = f"/account/passkeys/{row.digest[:16]}/remove"
        assert (await other.submit(path, csrf="guess")).status == 403
        assert (await other.submit(path, csrf=csrf)).status == 303
        gone = await log_in(work, other, device)
        assert (gone.status, gone.json["code"]) == (401, "unknown_passkey")
        assert "not known here" in gone.json["detail"]


async def test_a_passkey_goes_with_its_person(work):
    await work.person("eve")
    async with work.browser() as browser, work.browser() as other:
        device = await made(work, browser, await logged_in(work, browser, "eve"))
        await Person.filter(id="eve").delete()
        gone = await log_in(work, other, device)
        assert (gone.status, gone.json["code"]) == (401, "unknown_passkey")


async def test_passkeys_are_named_and_renamed_by_their_person_only(work):
    await work.person("eve")
    async with work.browser() as browser, work.browser() as other:
        browser.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"
        csrf = await logged_in(work, browser, "eve")
        for _ in range(2):
            await made(work, browser, csrf)
        names = {one.name for one in await Passkey.all()}
        assert names == {"Firefox on Linux", "Firefox on Linux 2"}
        one = await Passkey.get(name="Firefox on Linux 2")
        path = f"/account/passkeys/{one.digest[:16]}"
        admins = await logged_in(work, other)
        assert (await other.submit(f"{path}/rename", csrf=admins, name="Mine")).status == 404
        assert (await other.submit(f"{path}/remove", csrf=admins)).status == 404
        for name, status in (("Zoë’s key", 303), ("", 400), ("x" * 101, 400), ("a\u202eb", 400)):
            answer = await browser.submit(f"{path}/rename", csrf=csrf, name=name)
            assert answer.status == status
        assert "Zoë’s key" in (await browser.get("/account")).text


async def test_a_person_has_twenty_passkeys_at_most(work):
    async with work.browser() as browser:
        csrf = await logged_in(work, browser)
        for number in range(20):
            await Passkey.create(
                digest=f"{number}", person_id="admin", credential="AA", public_key="AA",
                sign_count=0, transports=[], name=str(number), created_at=1.0,
            )  # fmt: skip
        answer = await send(work, browser, "/account/passkeys/options", {"csrf": csrf})
        assert (answer.status, "20 passkeys" in answer.json["detail"]) == (409, True)


async def test_the_first_passkey_is_offered_until_there_is_one_or_somebody_says_not_now(work):
    await work.person("eve")
    offered = "Come back without a link"
    async with work.browser() as browser, work.browser() as other:
        csrf = await logged_in(work, browser, "eve")
        assert offered in (await browser.get("/")).text
        await browser.submit("/account/passkeys/later", csrf=csrf)
        assert offered not in (await browser.get("/")).text
        await logged_in(work, other, "eve")
        assert offered in (await other.get("/")).text, "in another browser"
        await made(work, browser, csrf)
        assert offered not in (await other.get("/")).text


async def test_many_attempts_do_not_fill_up_the_request(work):
    async with work.browser() as browser:
        for _ in range(30):
            await begin_login(work, browser)
        kept = [name for name in browser.cookies if "-attempt-" in name]
        assert len(kept) <= 13
