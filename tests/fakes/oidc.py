"""An OpenID provider that can say anything: every step of it can be made wrong.

It has no login page: a test takes the state and the nonce from where the portal sends the browser,
and comes back with a code of its own.
"""

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

CLIENT_ID = "dit4c"
CLIENT_SECRET = "a secret of the portal's at the provider, for tests"


@dataclass
class FakeOidc:
    """What it says, and what it was asked.

    :ivar claims: of the ID token, over those that are right; None leaves one out.
    :ivar userinfo: over what is right.
    :ivar metadata: over what is right.
    :ivar broken: by path, what is answered instead: a response, or seconds of silence before it.
    :ivar sign: makes the ID token of its claims; ECDSA with the published key if None.
    """

    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, Callable[[], web.Response] | float] = field(default_factory=dict)
    sign: Callable[[dict[str, Any]], str] | None = None
    nonce: str = ""
    challenge: str = ""
    subject: str = "s-1"
    asked: list[str] = field(default_factory=list)
    issuer: str = ""
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})

    def be_right(self) -> None:
        """Say again what is right."""
        self.claims, self.userinfo, self.metadata, self.broken = {}, {}, {}, {}
        self.sign = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._serve(self._discovery)),
                web.get("/jwks", self._serve(self._jwks)),
                web.post("/token", self._serve(self._token)),
                web.get("/me", self._serve(self._me)),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "localhost", 0).start()
        self.issuer = f"http://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def _serve(self, usual: Any) -> Any:
        async def serve(request: web.Request) -> web.Response:
            self.asked.append(request.path)
            broken = self.broken.get(request.path)
            if isinstance(broken, float):
                await asyncio.sleep(broken)
            elif broken is not None:
                return broken()
            return await usual(request)

        return serve

    async def _discovery(self, request: web.Request) -> web.Response:
        said = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/me",
            "authorization_response_iss_parameter_supported": True,
            **self.metadata,
        }
        return web.json_response(said)

    async def _jwks(self, request: web.Request) -> web.Response:
        return web.json_response(KeySet([self.key]).as_dict(private=False))

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        verifier = sha256(str(form["code_verifier"]).encode()).digest()
        challenge = urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if challenge != self.challenge or form["code"] != "a-code":
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(self.clock())
        claims = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": self.nonce,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        sign = self.sign or self.signed
        answer = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 300}
        return web.json_response({**answer, "id_token": sign(claims)})

    def signed(self, claims: dict[str, Any]) -> str:
        """An ID token by the published key."""
        return jwt.encode({"alg": "ES256", "kid": "one"}, claims, self.key, algorithms=["ES256"])

    async def _me(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer an-access-token"
        said = {"sub": self.subject, "name": "Ada Lovelace", **self.userinfo}
        return web.json_response(said)
