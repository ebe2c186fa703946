"""Logging in with OpenID Connect and GitHub: who comes in, who does not, and every wrong answer."""

import html
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from fakes.github import CLIENT_ID as GITHUB_ID
from fakes.github import CLIENT_SECRET as GITHUB_SECRET
from fakes.github import GitHub
from fakes.oidc import CLIENT_ID, CLIENT_SECRET, FakeOidc
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from systems.portal import hidden_fields
from yarl import URL

from dit4c_p2p.portal.login import provider_http
from dit4c_p2p.portal.login.config import (
    GitHubProviderConfig,
    LoginConfig,
    OidcProviderConfig,
    SignupRule,
)
from dit4c_p2p.portal.models import Person, PersonIdentity

# What is tested is the protocol; identities and invitations are on both databases elsewhere.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)

EVERYBODY = (SignupRule("uni"), SignupRule("github"))


@asynccontextmanager
async def provider(work, tmp_path, **login):
    """A fake provider ``uni`` that the portal knows; everybody may come unless told otherwise."""
    secret = tmp_path / "uni"
    secret.write_text(CLIENT_SECRET + "\n")
    async with FakeOidc() as fake:
        uni = OidcProviderConfig("uni", "Example University", fake.issuer, CLIENT_ID, secret)
        await configure(work, **{"providers": (uni,), **login})
        yield fake


async def configure(work, **login):
    """Start the portal anew with this about logging in."""
    await work.stop()
    work.with_config(login=LoginConfig(**{"signup": "listed", "rules": EVERYBODY, **login}))
    await work.start()


async def leave(browser, fake, path="/login/with/uni"):
    """Go to the provider; where the portal has sent the browser."""
    answer = await browser.get(path)
    assert answer.status == 303, answer.text
    url = URL(answer.location)
    fake.nonce, fake.challenge = url.query["nonce"], url.query["code_challenge"]
    return url


def coming_back(fake, url, **changed):
    """The query with which a provider sends a browser back."""
    said = {"state": url.query["state"], "code": "a-code", "iss": fake.issuer, **changed}
    query = {name: value for name, value in said.items() if value is not None}
    return str(URL(url.query["redirect_uri"]).with_query(query))


async def log_in(browser, fake, **changed):
    """There and back."""
    return await browser.get(coming_back(fake, await leave(browser, fake), **changed))


async def test_the_request_is_as_it_must_be(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as browser:
        url = await leave(browser, fake)
        query = url.query
        assert str(url.with_query(None)) == f"{fake.issuer}/auth"
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["redirect_uri"] == f"{work.url}/login/with/uni/callback"
        assert query["scope"] == "openid profile email"
        assert query["code_challenge_method"] == "S256"
        assert len(query["state"]) >= 43
        assert len(query["nonce"]) >= 43
        (cookie,) = [line for line in browser.set_cookies if "-attempt-" in line]
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert attribute in cookie
        for secret in (query["state"], query["nonce"]):
            assert secret not in cookie


async def test_somebody_new_comes_and_comes_again(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as one, work.browser() as two:
        fake.userinfo = {"email": "ada@example.org", "email_verified": True}
        done = await log_in(one, fake)
        assert (done.status, done.location) == (303, "/"), done.text
        assert (await log_in(two, fake)).status == 303
        page = await two.get("/account")
        assert "Ada Lovelace" in page.text
        assert "ada@example.org" in page.text
        (person,) = await Person.filter(name="Ada Lovelace")
        assert (person.id, person.is_admin) == ("ada-lovelace", False)
        # The address is for people to read; the subject decides.
        fake.subject = "s-2"
        assert (await log_in(two, fake)).status == 303
        assert await Person.filter(name="Ada Lovelace").count() == 2


CLOSED = {"signup": "closed"}


@pytest.mark.parametrize(
    "login", [CLOSED, {"rules": (SignupRule("uni", "domain", "example.com"),)}]
)
async def test_somebody_whom_no_rule_lets_in_has_no_account(work, tmp_path, login):
    async with provider(work, tmp_path, **login) as fake, work.browser() as browser:
        fake.userinfo = {"email": "ada@example.org", "email_verified": True}
        done = await log_in(browser, fake)
        assert done.status == 403
        assert "You have no account here" in done.text
        assert "invitation" in done.text
        assert await Person.all().count() == 1


async def test_an_identity_that_is_named_is_an_admins(work, tmp_path):
    named = frozenset({("uni", "s-1")})
    async with provider(work, tmp_path, signup="closed", rules=(), admins=named) as fake:
        async with work.browser() as browser:
            assert (await log_in(browser, fake)).status == 303
            assert (await browser.get("/admin/people")).status == 200
            fake.subject = "s-2"
            assert (await log_in(browser, fake)).status == 403


async def test_somebody_who_was_named_later_becomes_an_admin(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as browser:
        await log_in(browser, fake)
        assert (await browser.get("/admin/people")).status == 404
        uni = work.config.login.providers
        await configure(work, providers=uni, admins=frozenset({("uni", "s-1")}))
        await log_in(browser, fake)
        assert (await browser.get("/admin/people")).status == 200


async def test_somebody_who_is_disabled_stays_outside(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as browser, work.api() as api:
        await log_in(browser, fake)
        await api.request("PATCH", "people/ada-lovelace", json={"disabled": True})
        closed = await log_in(browser, fake)
        assert (closed.status, "is disabled" in closed.text) == (403, True)


# ---- identities of one account


async def link(browser, fake):
    """Link an identity on the account page."""
    csrf = hidden_fields((await browser.get("/account")).text)["csrf"]
    page = await browser.submit("/account/identities", csrf=csrf, provider="uni")
    assert page.status == 200, page.text
    target = page.text.split('content="0; url=', 1)[1].split('"', 1)[0].replace("&amp;", "&")
    url = URL(target)
    fake.nonce, fake.challenge = url.query["nonce"], url.query["code_challenge"]
    return url


async def test_an_account_links_identities_and_is_entered_by_each(work, tmp_path):
    async with provider(work, tmp_path, **CLOSED) as fake, work.browser() as browser:
        await browser.log_in(await work.login_link())
        for subject in ("s-1", "s-2"):
            fake.subject = subject
            done = await browser.get(coming_back(fake, await link(browser, fake)))
            assert (done.status, done.location) == (303, "/account?done=identity#identities")
        page = (await browser.get("/account")).text
        assert page.count("data-identity=") == 2
        async with work.browser() as other:
            assert (await log_in(other, fake)).status == 303
            assert (await other.get("/admin/people")).status == 200
        id = page.split('data-identity="', 1)[1].split('"', 1)[0]
        csrf = hidden_fields(page)["csrf"]
        path = f"/account/identities/{id}/remove"
        assert (await browser.submit(path, csrf="guess")).status == 403
        assert (await browser.submit(path, csrf=csrf)).status == 303
        assert await PersonIdentity.all().count() == 1
        fake.subject = "s-1"
        assert (await log_in(browser, fake)).status == 403, "it is nobody's any more"


async def test_an_identity_that_is_somebody_elses_is_refused(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as one, work.browser() as two:
        assert (await log_in(one, fake)).status == 303
        await two.log_in(await work.login_link())
        refused = await two.get(coming_back(fake, await link(two, fake)))
        assert (refused.status, "another account" in refused.text) == (409, True)
        assert "ada" not in refused.text.split("<main", 1)[1].replace("Ada Lovelace", "")
        (row,) = await PersonIdentity.all()
        assert row.person_id == "ada-lovelace"


async def test_linking_is_the_sessions_own(work, tmp_path):
    """Nobody links their identity with another's account, nor by way of a login."""
    await work.person("eve")
    async with provider(work, tmp_path, **CLOSED) as fake, work.browser() as browser:
        await browser.log_in(await work.login_link())
        back = coming_back(fake, await link(browser, fake))
        await browser.log_in(await work.login_link("eve"))
        refused = await browser.get(back)
        assert (refused.status, "somebody else now" in refused.text) == (400, True)
        assert await PersonIdentity.all().count() == 0


# ---- one browser, once, in time


async def test_an_answer_counts_once_in_the_browser_that_asked_and_in_time(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as one, work.browser() as two:
        back = coming_back(fake, await leave(one, fake))
        stolen = await two.get(back)
        assert (stolen.status, "begun elsewhere" in stolen.text) == (400, True)
        kept = dict(one.cookies)
        assert (await one.get(back)).status == 303
        assert (await one.get(back)).location == "/", "loaded again, one is in"
        two.cookies = kept
        again = await two.get(back)
        assert (again.status, "finished already" in again.text) == (400, True)
        two.cookies.clear()
        back = coming_back(fake, await leave(two, fake))
        work.clock.ahead = 601
        late = await two.get(back)
        assert (late.status, "too long" in late.text) == (400, True)


async def test_tabs_that_log_in_together_all_arrive(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as browser:
        begun = []
        for _ in range(10):
            url = await leave(browser, fake)
            begun.append((url, fake.nonce, fake.challenge))
        for url, nonce, challenge in begun:
            fake.nonce, fake.challenge = nonce, challenge
            assert (await browser.get(coming_back(fake, url))).status == 303


async def test_an_answer_of_another_provider_is_refused(work, tmp_path):
    async with FakeOidc() as other:
        async with provider(work, tmp_path) as fake, work.browser() as browser:
            (uni,) = work.config.login.providers
            second = OidcProviderConfig("two", "Two", other.issuer, CLIENT_ID, uni.secret_file)
            await configure(work, providers=(uni, second))
            url = await leave(browser, fake)
            mixed = coming_back(fake, url).replace("/with/uni/", "/with/two/")
            assert (await browser.get(mixed)).status == 400
            assert other.asked == [], "the code is not given to it"
            for issuer in (other.issuer, "", None):
                url = await leave(browser, fake)
                answer = await browser.get(coming_back(fake, url, iss=issuer))
                assert answer.status == 502
            assert "/token" not in fake.asked
            assert (await browser.get("/login/with/three")).status == 404


# ---- wrong answers


async def refused(work, fake, prepare, *, status=502, words="can't be used", **changed):
    """A login that ends in a clear page and in nothing else; returns what is wrong with that."""
    fake.be_right()
    prepare(fake)
    # What the portal knows of the provider is too old by then.
    work.clock.ahead += 601
    fake.clock = work.clock
    async with work.browser() as browser:
        answer = await browser.get("/login/with/uni")
        if answer.status == 303:
            url = URL(answer.location)
            fake.nonce, fake.challenge = url.query["nonce"], url.query["code_challenge"]
            answer = await browser.get(coming_back(fake, url, **changed))
        text = html.unescape(answer.text)
        if (answer.status, words in text, "Example University" in text) != (status, True, True):
            return f"{answer.status}: {text.split('<main', 1)[-1]}"
        if await PersonIdentity.exists() or (await browser.get("/")).status != 401:
            return "somebody is in"
    return ""


async def all_refused(work, tmp_path, cases, **more):
    """Every case is refused; the portal and the provider are the same for all."""
    async with provider(work, tmp_path) as fake:
        wrong = {name: await refused(work, fake, case, **more) for name, case in cases.items()}
        assert {name: reason for name, reason in wrong.items() if reason} == {}
        fake.be_right()
        work.clock.ahead += 601
        async with work.browser() as browser:
            assert (await log_in(browser, fake)).status == 303, "and all right again"


def says(**claims):
    return lambda fake: fake.claims.update(claims)


def publishes(**metadata):
    return lambda fake: fake.metadata.update(metadata)


def signs(make):
    def prepare(fake):
        fake.sign = lambda claims: make(fake, claims)

    return prepare


def breaks(path, instead):
    return lambda fake: fake.broken.update({path: instead})


def _other_key(fake, claims):
    stranger = ECKey.generate_key("P-256", {"kid": "one"})
    return jwt.encode({"alg": "ES256", "kid": "one"}, claims, stranger, algorithms=["ES256"])


def _by_the_secret(fake, claims):
    key = OctKey.import_key(CLIENT_SECRET)
    return jwt.encode({"alg": "HS256"}, claims, key, algorithms=["HS256"])


def _unsigned(fake, claims):
    body = fake.signed(claims).split(".")[1]
    return f"eyJhbGciOiJub25lIn0.{body}."


DISCOVERY = "/.well-known/openid-configuration"


def answers(path, *body, **more):
    return breaks(path, lambda: web.Response(*body, **more))


def answers_json(path, data, status=200):
    return breaks(path, lambda: web.json_response(data, status=status))


NONSENSE = {
    "another issuer's token": says(iss="https://evil.example"),
    "another client's token": says(aud="another"),
    "other clients' token": says(aud=["another", "more"]),
    "a token of two clients without azp": says(aud=["dit4c", "another"]),
    "a token for another client": says(azp="another"),
    "another nonce": says(nonce="another"),
    "no nonce": says(nonce=None),
    "no subject": says(sub=None),
    "an empty subject": says(sub=""),
    "a subject of another type": says(sub=7),
    "no end": says(exp=None),
    "another access token's hash": says(at_hash="AAAA"),
    "signed by another key": signs(_other_key),
    "signed by the client's secret": signs(_by_the_secret),
    "not signed": signs(_unsigned),
    "no JWT": signs(lambda fake, claims: "nonsense"),
    "an ID token of another type": signs(lambda fake, claims: 7),
    "somebody else's userinfo": lambda fake: fake.userinfo.update(sub="another"),
    "metadata of another issuer": publishes(issuer="https://evil.example"),
    "no token endpoint": publishes(token_endpoint=None),
    "a file as the token endpoint": publishes(token_endpoint="file:///etc/passwd"),
    "a number as the key set": publishes(jwks_uri=7),
    "a script to log in with": publishes(authorization_endpoint="javascript:alert(1)"),
    "a page as metadata": answers(DISCOVERY, text="<html>"),
    "a list as metadata": answers_json(DISCOVERY, []),
    "no metadata": answers(DISCOVERY, status=404),
    "metadata elsewhere": answers(DISCOVERY, status=302, headers={"Location": "/me"}),
    "too much metadata": answers(DISCOVERY, body=b" " * 600_000),
    "a key set of another type": answers_json("/jwks", {"keys": "none"}),
    "a key of no known type": answers_json("/jwks", {"keys": [{"kty": "what"}]}),
    "a key set that is a list": answers_json("/jwks", []),
    "half a token answer": answers("/token", text="{"),
    "a list as the token answer": answers_json("/token", [1]),
    "a client that is refused": answers_json("/token", {"error": "invalid_client"}, 401),
    "userinfo that is refused": answers("/me", status=403),
    "userinfo that is no text": answers("/me", body=b"\xff\xfe"),
}


async def test_a_nonsensical_answer_ends_in_a_clear_page(work, tmp_path):
    await all_refused(work, tmp_path, NONSENSE)


async def test_a_provider_that_fails_or_is_slow_ends_in_a_clear_page(work, tmp_path, monkeypatch):
    monkeypatch.setattr(provider_http, "STEP_S", 0.4)
    cases = {}
    for path in (DISCOVERY, "/jwks", "/token", "/me"):
        cases[f"{path} fails"] = breaks(path, lambda: web.Response(status=503))
        cases[f"{path} is slow"] = breaks(path, 5.0)
    await all_refused(work, tmp_path, cases, words="does not answer")


async def test_a_provider_that_is_not_there_ends_in_a_clear_page(work, tmp_path):
    async with provider(work, tmp_path):
        pass
    async with work.browser() as browser:
        answer = await browser.get("/login/with/uni")
        assert (answer.status, "does not answer" in answer.text) == (502, True)


async def test_a_clock_that_is_off_is_said_to_be(work, tmp_path):
    cases = {"behind": says(exp=1), "ahead": says(iat=4_000_000_000)}
    await all_refused(work, tmp_path, cases, words="clocks of")


async def test_somebody_who_did_not_want_to_may_start_again(work, tmp_path):
    said = {"error": "access_denied", "code": None}
    words = "did not log you in"
    await all_refused(work, tmp_path, {"": lambda fake: None}, status=403, words=words, **said)


async def test_a_key_that_is_new_is_fetched(work, tmp_path):
    async with provider(work, tmp_path) as fake, work.browser() as browser:
        assert (await log_in(browser, fake)).status == 303
        fake.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        assert (await log_in(browser, fake)).status == 502, "not again so soon"
        work.clock.ahead = 31
        assert (await log_in(browser, fake)).status == 303


# ---- GitHub


@asynccontextmanager
async def github(work, tmp_path, **login):
    """A GitHub that the portal knows."""
    secret = tmp_path / "github"
    secret.write_text(GITHUB_SECRET)
    async with GitHub(f"{work.url}/login/with/github/callback") as hub:
        config = GitHubProviderConfig(
            "github", "GitHub", GITHUB_ID, secret, url=hub.url, api=f"{hub.url}/api/v3"
        )
        await configure(work, **{"providers": (config,), **login})
        yield hub


async def through_github(browser, hub):
    """To GitHub and back."""
    there = await browser.get("/login/with/github")
    assert there.status == 303
    async with aiohttp.ClientSession() as session:
        async with session.get(there.location, allow_redirects=False) as response:
            back = response.headers["Location"]
    return await browser.get(back)


async def test_github_lets_in_by_the_numeric_id(work, tmp_path):
    async with github(work, tmp_path) as hub, work.browser() as browser:
        hub.emails = [
            {"email": "octo@example.org", "verified": True, "primary": True},
            {"email": "octo@example.com", "verified": False, "primary": False},
        ]
        assert (await through_github(browser, hub)).status == 303
        (row,) = await PersonIdentity.all()
        assert (row.provider, row.subject, row.label) == ("github", "583231", "octo@example.org")
        # The user name is given to somebody else, who is somebody else.
        hub.user = {"id": 7, "login": "octocat", "name": "Another"}
        assert (await through_github(browser, hub)).status == 303
        assert await PersonIdentity.all().count() == 2


async def test_githubs_organizations_and_verified_addresses_count(work, tmp_path):
    rules = (SignupRule("github", "group", "example"), SignupRule("github", "domain", "a.example"))
    async with github(work, tmp_path, rules=rules) as hub:
        for orgs, emails, comes in (
            ([{"login": "example"}], [], True),
            ([{"login": "another"}], [], False),
            ([], [{"email": "octo@a.example", "verified": True, "primary": False}], True),
            ([], [{"email": "octo@a.example", "verified": False, "primary": True}], False),
            ({"message": "Not Found"}, {"message": "Not Found"}, False),
        ):
            hub.user = {"id": hub.user["id"] + 1, "login": "octocat"}
            hub.orgs, hub.emails = orgs, emails
            async with work.browser() as browser:
                assert (await through_github(browser, hub)).status == (303 if comes else 403)


async def test_github_without_a_numeric_id_is_nonsense(work, tmp_path):
    async with github(work, tmp_path) as hub, work.browser() as browser:
        for user in ({}, [], *({"id": id} for id in ("583231", True, 0, None, -1))):
            hub.user = user
            answer = await through_github(browser, hub)
            assert (answer.status, "can&#39;t be used" in answer.text) == (502, True)


async def test_github_may_deny(work, tmp_path):
    async with github(work, tmp_path) as hub, work.browser() as browser:
        hub.denies = True
        answer = await through_github(browser, hub)
        assert (answer.status, "did not log you in" in answer.text) == (403, True)
