"""A stand-in for GitHub that speaks its OAuth and its API, as far as logging in goes.

It checks what GitHub checks: the client, its secret, the redirect URI, PKCE, and that a code is
used once. Everybody who is sent to it is ``user``, without a question.
"""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self

from aiohttp import web
from yarl import URL

CLIENT_ID = "Iv1.0123456789abcdef"
CLIENT_SECRET = "a secret of the portal's at GitHub, for tests"


@dataclass
class GitHub:
    """Where it is, who is logged in there, and what it was asked."""

    redirect_uri: str
    user: dict[str, Any] = field(
        default_factory=lambda: {"id": 583231, "login": "octocat", "name": "The Octocat"}
    )
    emails: list[dict[str, Any]] = field(default_factory=list)
    orgs: list[dict[str, Any]] = field(default_factory=list)
    denies: bool = False
    url: str = ""
    _codes: dict[str, str] = field(default_factory=dict)
    _tokens: set[str] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/login/oauth/authorize", self._authorize),
                web.post("/login/oauth/access_token", self._token),
                web.get("/api/v3/user", self._asked(lambda: self.user)),
                web.get("/api/v3/user/emails", self._asked(lambda: self.emails)),
                web.get("/api/v3/user/orgs", self._asked(lambda: self.orgs)),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "localhost", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://localhost:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        assert query["client_id"] == CLIENT_ID
        assert query["redirect_uri"] == self.redirect_uri
        assert query["code_challenge_method"] == "S256"
        assert "nonce" not in query
        said = {"state": query["state"]}
        if self.denies:
            said |= {"error": "access_denied", "error_description": "The user has denied it."}
        else:
            said["code"] = code = secrets.token_hex(10)
            self._codes[code] = query["code_challenge"]
        return web.Response(
            status=302, headers={"Location": str(URL(self.redirect_uri).with_query(said))}
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        verifier = sha256(str(form["code_verifier"]).encode()).digest()
        challenge = urlsafe_b64encode(verifier).rstrip(b"=").decode()
        right = (
            form["client_id"] == CLIENT_ID
            and form["client_secret"] == CLIENT_SECRET
            and form["redirect_uri"] == self.redirect_uri
            and self._codes.pop(str(form["code"]), None) == challenge
        )
        if not right:
            # GitHub answers errors with 200.
            return web.json_response({"error": "bad_verification_code"})
        token = f"gho_{secrets.token_hex(18)}"
        self._tokens.add(token)
        return web.json_response(
            {"access_token": token, "token_type": "bearer", "scope": "read:user"}
        )

    def _asked(self, said: Any) -> Any:
        async def serve(request: web.Request) -> web.Response:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in self._tokens:
                return web.json_response({"message": "Bad credentials"}, status=401)
            return web.json_response(said())

        return serve
