"""What a token may do: each endpoint asks for one scope, and tokens are limited to theirs."""

import pytest

from dit4c_p2p.portal.api.routes import ENDPOINTS
from dit4c_p2p.portal.models import ApiToken

READ, WRITE, ADMIN = "instances:read", "instances:write", "admin"


async def token(work, *scopes, person="admin"):
    async with work.api() as api:
        made = await api.post(
            f"people/{person}/tokens", json={"label": "-".join(scopes), "scopes": list(scopes)}
        )
    assert made.status == 201, made.text
    assert made.json["scopes"] == sorted(scopes, key=[ADMIN, READ, WRITE].index)
    return made.json["token"]


async def test_every_endpoint_refuses_a_token_without_its_scope(work):
    tokens = {scope: await token(work, scope) for scope in (READ, WRITE, ADMIN)}
    wanted = [endpoint for endpoint in ENDPOINTS if endpoint.scope is not None]
    assert len(wanted) > 20
    for endpoint in wanted:
        for scope, text in tokens.items():
            if scope == endpoint.scope:
                continue
            async with work.api(text) as api:
                path = endpoint.path.replace("{", "x").replace("}", "")
                refused = await api.request(endpoint.method, path, json={})
                where = f"{endpoint.method} {endpoint.path} with {scope}"
                assert (refused.status, refused.json["code"]) == (403, "insufficient_scope"), where
                assert endpoint.scope in refused.json["detail"]
                assert f'scope="{endpoint.scope}"' in refused.headers["WWW-Authenticate"]


def test_only_what_everybody_may_do_asks_for_no_scope():
    free = {f"{one.method} {one.path}" for one in ENDPOINTS if one.scope is None}
    assert free == {
        "GET whoami",
        "GET people/{id}",
        "GET people/{id}/limits",
        "GET people/{id}/tokens",
        "POST people/{id}/tokens/{token}/revoke",
    }


async def test_a_token_ends_itself(work):
    await work.person("eve")
    text = await token(work, READ, person="eve")
    async with work.api(text) as api:
        assert (await api.get("instances")).status == 200
        assert (await api.post("people/eve/tokens/current/revoke")).status == 200
        assert (await api.get("instances")).status == 401
    assert await ApiToken.exists(person_id="eve", label="test"), "the other stays"


@pytest.mark.parametrize(
    "body",
    [
        {"label": "x", "scopes": []},
        {"label": "x", "scopes": ["everything"]},
        {"label": "x", "scopes": "admin"},
        {"label": "x", "scopes": [READ, 7]},
        {"label": "x", "scope": "user"},
    ],
)
async def test_scopes_that_there_are_not(work, body):
    async with work.api() as api:
        assert (await api.post("people/admin/tokens", json=body)).status == 400


async def test_a_users_token_has_no_admins_scope(work):
    await work.person("eve")
    async with work.api() as api:
        refused = await api.post("people/eve/tokens", json={"label": "x", "scopes": [ADMIN]})
        assert (refused.status, refused.json["field"]) == (400, "scopes")
