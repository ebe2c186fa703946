"""A small OAuth portal for tests: one client, whose assertions and PKCE it really checks.

    async with OAuthPortal(instance_name, instance_key) as portal:
        portal.info                       # for PodConfig
        portal.visit(location)            # a browser with a portal session opens /oauth/authorize

It listens on 127.0.0.1 and can go away and come back (``stop``/``start``).
"""

import asyncio
import base64
import hashlib
import secrets
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncssh
from aiohttp import web
from fakes.registry import RegistryPortal

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.helper import AnswersOn


class OAuthPortal(RegistryPortal):
    """The registry, and one client's authorization server.

    :ivar person: who is logged in at the portal.
    :ivar active: the access tokens that introspection calls active.
    :ivar introspections: how often it was asked.
    :ivar announced: the bodies of ``PUT /instances/``.
    :ivar told: set with each of them.
    :ivar fail_with: a status to answer everything but the registry with, or None.
    """

    def __init__(self, name: PeerName, key: asyncssh.SSHKey) -> None:
        super().__init__()
        self.name, self._client_key = name, key
        self.publish(name, key)
        self.person = "admin"
        self.expires_in = 3600
        self.active: set[str] = set()
        self.introspections = 0
        self.announced: list[AnswersOn] = []
        self.told = asyncio.Event()
        self.fail_with: int | None = None
        self._codes: dict[str, tuple[str, str]] = {}  # code → challenge, redirect URI
        self._jtis: set[str] = set()

    def add_routes(self, app: web.Application) -> None:
        """What an instance's helpers call."""
        app.router.add_get("/config.json", self._config)
        app.router.add_post("/oauth/token", self._token)
        app.router.add_post("/oauth/introspect", self._introspect)

    def visit(self, location: str, *, error: str | None = None) -> str:
        """Where a browser that opens the authorization endpoint is sent back to."""
        parts = urlsplit(location)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/oauth/authorize"
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert query["response_type"] == "code"
        assert query["client_id"] == str(self.name)
        assert query["code_challenge_method"] == "S256"
        answer = {"state": query["state"], "iss": self.url}
        if error is None:
            code = secrets.token_urlsafe(16)
            self._codes[code] = (query["code_challenge"], query["redirect_uri"])
            answer["code"] = code
        else:
            answer["error"] = error
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    # ---- handlers

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=self.fail_with or 200)

    async def _token(self, request: web.Request) -> web.Response:
        form = await self._authenticated(request)
        challenge, redirect_uri = self._codes.pop(str(form.get("code")), ("", ""))
        digest = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if (
            form.get("grant_type") != "authorization_code"
            or not challenge
            or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge
            or form.get("redirect_uri") != redirect_uri
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = secrets.token_urlsafe(16)
        self.active.add(token)
        return web.json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "sub": self.person,
            }
        )

    async def _introspect(self, request: web.Request) -> web.Response:
        form = await self._authenticated(request)
        self.introspections += 1
        if form.get("token") not in self.active:
            return web.json_response({"active": False})
        return web.json_response(
            {"active": True, "sub": self.person, "client_id": str(self.name), "exp": 2**31}
        )

    async def _answers_on(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        issuer = tokens.read_head(token).issuer
        if issuer == self.name:
            self._verify(token)
        else:  # another instance, with a key of its own
            tokens.verify(token, self._keys.get(issuer, []), self.url, now=time.time())
        if self.fail_with:
            return web.Response(status=self.fail_with)
        self.announced.append(decode(await request.read(), AnswersOn))
        self.told.set()
        return web.Response(status=204)

    async def _authenticated(self, request: web.Request) -> dict[str, str]:
        if self.fail_with:
            raise _Failure(self.fail_with)
        form = {key: str(value) for key, value in (await request.post()).items()}
        assert form["client_assertion_type"] == (
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        )
        assertion = self._verify(form["client_assertion"])
        assert assertion.claims["sub"] == form["client_id"] == str(self.name)
        return form

    def _verify(self, token: str) -> tokens.VerifiedToken:
        verified = tokens.verify(token, [self._client_key], self.url, now=time.time())
        assert verified.issuer == self.name
        assert verified.jti not in self._jtis, "a token was used twice"
        self._jtis.add(verified.jti)
        return verified


class _Failure(web.HTTPServiceUnavailable):
    """An answer of any status."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.set_status(status)
