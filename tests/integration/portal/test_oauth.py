"""The authorization server with real JWTs; row 8 and its neighbours in security.md."""

import asyncio
import base64
import hashlib
import html
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from systems.portal import Limits, PortalAtWork, running_instance

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.keys import fingerprint, generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.models import OAuthCode, OAuthToken, Session

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Client:
    """An instance as an OAuth client, honest unless told otherwise."""

    def __init__(self, work, browser, instance, key):
        self.work = work
        self.browser = browser
        self.name = f"instance-{instance}"
        self.key = key
        self.redirect_uri = f"http://{instance}.localhost:8081/.dit4c/callback"
        self.verifier = secrets.token_urlsafe(32)

    def assertion(self, **changes):
        claims = {"sub": self.name, **changes.pop("claims", {})}
        key = changes.pop("key", self.key)
        name = PeerName.parse(changes.pop("name", self.name))
        now = changes.pop("now", self.work.clock())
        audience = changes.pop("audience", self.work.url)
        return tokens.issue(key, name, audience, now=now, claims=claims, **changes)

    def query(self, **changes):
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return {
            "response_type": "code",
            "client_id": self.name,
            "redirect_uri": self.redirect_uri,
            "state": "some state",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **changes,
        }

    async def authorize(self, **changes):
        fields = {name: value for name, value in self.query(**changes).items() if value}
        return await self.browser.get(f"/oauth/authorize?{urlencode(fields)}")

    async def code(self):
        answer = await self.authorize()
        assert answer.status == 302, answer.text
        return parse_qs(urlsplit(answer.location).query)["code"][0]

    async def exchange(self, code, **changes):
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
            **changes,
        }
        return await self.browser.post(
            "/oauth/token", data={name: value for name, value in form.items() if value}
        )

    async def token(self):
        return (await self.exchange(await self.code())).json["access_token"]

    async def introspect(self, token, **changes):
        form = {
            "token": token,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(),
            **changes,
        }
        return await self.browser.post("/oauth/introspect", data=form)

    async def active(self, token):
        answer = await self.introspect(token)
        return answer.status == 200 and answer.json["active"]


@pytest.fixture
async def scheduler(work):
    async with work.scheduler() as scheduler:
        yield scheduler


@pytest.fixture
async def client(work, scheduler):
    """A running instance of the admin's, and the admin's browser, logged in."""
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        instance, key = await running_instance(work, scheduler)
        yield Client(work, browser, instance, key)


@pytest.mark.both_databases
async def test_the_whole_flow(work, client):
    answer = await client.authorize()
    assert answer.status == 302
    assert answer.location.startswith(client.redirect_uri + "?")
    back = parse_qs(urlsplit(answer.location).query)
    assert (back["state"], back["iss"]) == (["some state"], [work.url])

    done = await client.exchange(back["code"][0])
    assert done.status == 200, done.text
    assert done.headers["Cache-Control"] == "no-store"
    token = done.json
    assert (token["token_type"], token["sub"]) == ("Bearer", "admin")
    assert token["expires_in"] == Limits().access_token_s

    seen = (await client.introspect(token["access_token"])).json
    assert (seen["active"], seen["sub"], seen["client_id"]) == (True, "admin", client.name)
    rows = str(await OAuthToken.all().values()) + str(await OAuthCode.all().values())
    assert token["access_token"] not in rows
    assert back["code"][0] not in rows


async def test_metadata(work):
    async with work.browser() as browser:
        said = (await browser.get("/.well-known/oauth-authorization-server")).json
    assert said["issuer"] == work.url
    secure = {
        name: value.replace("http:", "https:") if isinstance(value, str) else value
        for name, value in said.items()
    }
    AuthorizationServerMetadata(secure).validate()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://evil.example/.dit4c/callback",
        "{own}/",
        "{own}?x=1",
        "{own}#x",
        "HTTP{rest}",
        '{own}"',
        "http://other.localhost:8081/.dit4c/callback",
    ],
)
async def test_row_8_exact_redirect_uri_and_no_open_redirect(client, uri):
    own = client.redirect_uri
    changed = uri.replace("{own}", own).replace("{rest}", own.removeprefix("http"))
    answer = await client.authorize(redirect_uri=changed)
    assert (answer.status, answer.location) == (404, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": ""},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
        {"code_challenge": "", "code_challenge_method": ""},
        {"response_type": "token"},
        {"response_type": ""},
        {"response_type": 'code" x'},
    ],
)
async def test_row_8_pkce_with_s256_is_required(client, changes):
    answer = await client.authorize(**changes)
    assert answer.status == 302, answer.text
    back = parse_qs(urlsplit(answer.location).query)
    assert answer.location.startswith(client.redirect_uri + "?")
    assert "code" not in back
    assert back["error"][0] in ("invalid_request", "unsupported_response_type")
    assert back["state"] == ["some state"]
    assert back["iss"] == [client.work.url]


async def test_row_8_a_parameter_twice_is_refused(client):
    doubled = urlencode([*client.query().items(), ("state", "other")])
    answer = await client.browser.get(f"/oauth/authorize?{doubled}")
    assert (answer.status, answer.location) == (400, "")
    body = urlencode([("code", "a"), ("code", "b")])
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.browser.post("/oauth/token", data=body, headers=kind)).status == 400


@pytest.mark.both_databases
async def test_row_8_a_code_used_by_eight_at_once_gives_one_token(client):
    code = await client.code()
    answers = await asyncio.gather(*(client.exchange(code) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200, *[400] * 7]
    token = next(answer.json["access_token"] for answer in answers if answer.status == 200)
    assert not await client.active(token), "a code that came back ends what was made from it"


@pytest.mark.both_databases
async def test_row_8_a_replayed_code_ends_its_tokens(client):
    code = await client.code()
    token = (await client.exchange(code)).json["access_token"]
    assert await client.active(token)
    again = await client.exchange(code)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert not await client.active(token)


async def test_row_8_codes_live_a_minute(work, client):
    code = await client.code()
    work.clock.ahead = Limits().code_s + 1
    answer = await client.exchange(code)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_grant"),
        ({"redirect_uri": "http://evil.example/"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"client_assertion": ""}, "invalid_client"),
        ({"client_assertion_type": "other"}, "invalid_client"),
        ({"client_id": "instance-other"}, "invalid_client"),
    ],
)
async def test_a_wrong_exchange_gives_nothing(client, changes, error):
    answer = await client.exchange(await client.code(), **changes)
    assert (answer.status, answer.json["error"]) == (400, error), answer.text


async def test_row_12_the_clients_own_key_its_audience_and_its_time(work, client):
    code = await client.code()
    for changes in (
        {"key": generate()},
        {"audience": work.url + "/"},
        {"claims": {"sub": "instance-other"}},
        {"now": work.clock() - 600},
        {"now": work.clock() + 600},
        {"key": work.keys["node-main"], "name": "node-main", "claims": {"sub": "node-main"}},
    ):
        answer = await client.exchange(code, client_assertion=client.assertion(**changes))
        assert (answer.status, answer.json["error"]) == (400, "invalid_client"), changes
    assert (await client.exchange(code)).status == 200, "none of these spent the code"


async def test_row_7_an_assertion_counts_once(client):
    assertion = client.assertion()
    token = (await client.exchange(await client.code(), client_assertion=assertion)).json[
        "access_token"
    ]
    again = await client.exchange(await client.code(), client_assertion=assertion)
    assert (again.status, again.json["error"]) == (400, "invalid_client")
    seen = await client.introspect(token, client_assertion=assertion)
    assert seen.status == 400
    at_once = client.assertion()
    answers = await asyncio.gather(
        *(client.introspect(token, client_assertion=at_once) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200, *[400] * 7]


async def test_row_6_another_instances_client_gets_nothing(work, scheduler, client):
    instance, key = await running_instance(work, scheduler)
    other = Client(work, client.browser, instance, key)
    code, token = await client.code(), await client.token()
    stolen = await other.exchange(
        code, redirect_uri=client.redirect_uri, code_verifier=client.verifier
    )
    assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")
    assert not await other.active(token)
    assert await client.active(token)
    assert (await client.exchange(code)).status == 200, "the thief did not spend it"


async def test_only_the_creator_gets_in(work, client):
    await work.person("other")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("other"))
        stranger = Client(work, browser, client.name.removeprefix("instance-"), client.key)
        refused = await stranger.authorize()
        nothing = await stranger.authorize(client_id="instance-nothing")
        assert (refused.status, refused.location) == (404, "")
        assert refused.text == nothing.text


async def test_logging_in_leads_back_to_where_one_was_going(work, client):
    client.browser.cookies.clear()
    asked = await client.authorize()
    assert (asked.status, asked.location) == (401, "")
    done = await client.browser.log_in(await work.login_link())
    assert done.status == 200
    path = html.unescape(done.text.split('<a href="/oauth', 1)[1].split('"', 1)[0])
    asked_again = parse_qs(urlsplit("/oauth" + path).query)
    assert asked_again == {name: [value] for name, value in client.query().items()}
    assert (await client.browser.get("/oauth" + path)).status == 302
    again = await client.browser.log_in(await work.login_link())
    assert (again.status, again.location) == (303, "/"), "once"


async def test_row_10_logout_ends_the_access_token(client):
    token, unused = await client.token(), await client.code()
    await client.browser.submit("/logout", csrf=await client.browser.csrf())
    assert not await client.active(token)
    assert (await client.exchange(unused)).status == 400


async def test_discard_and_revocation_end_the_access_token(work, scheduler, client):
    token = await client.token()
    instance = client.name.removeprefix("instance-")
    async with work.api() as api:
        await api.post(f"instances/{instance}/discard")
        assert not await client.active(token)
        assert (await client.authorize()).status == 404
        await scheduler.report(instance, State.DISCARDING)
        assert (await client.introspect(token)).status == 400

        other, key = await running_instance(work, scheduler)
        client = Client(work, client.browser, other, key)
        token = await client.token()
        await api.post(f"keys/{fingerprint(key)}/revoke")
        assert (await client.introspect(token)).status == 400
        assert (await client.authorize()).status == 404, "no client without a key in force"


async def test_an_access_token_has_an_end(work, client):
    token = await client.token()
    work.clock.ahead = Limits().access_token_s + 1
    assert not await client.active(token)
    assert not await client.active("made-up")


async def test_row_10_an_access_token_ends_with_the_portal_session_it_came_from(tmp_path, engine):
    limits = Limits(session_s=3600, session_idle_s=1800)
    async with (
        PortalAtWork(tmp_path, limits) as work,
        work.scheduler() as scheduler,
        work.browser() as browser,
    ):
        await browser.log_in(await work.login_link())
        client = Client(work, browser, *await running_instance(work, scheduler))
        idle = await client.token()
        work.clock.ahead = limits.session_idle_s - 60
        assert await client.active(idle)
        work.clock.ahead = limits.session_idle_s + 60
        assert not await client.active(idle), "nobody has used the session for too long"

        await browser.log_in(await work.login_link())
        token, code = await client.token(), await client.code()
        began = work.clock.ahead
        for _ in range(3):
            work.clock.ahead += limits.session_idle_s / 1.5
            await browser.get("/")
        assert work.clock.ahead - began >= limits.session_s
        assert not await client.active(token), "its lifetime is over, used or not"
        assert (await client.exchange(code)).status == 400


async def test_row_10_a_code_of_a_session_that_has_ended_gives_nothing(client):
    code = await client.code()
    await Session.all().update(ended_at=1.0)
    assert (await client.exchange(code)).status == 400
