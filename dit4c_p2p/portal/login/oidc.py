"""OpenID Connect providers by discovery (OpenID Connect Core and Discovery 1.0, RFC 9207).

The flow is the authorization code with PKCE S256. Authlib's client carries it out; the ID token is
verified against the provider's key set, with ``iss``, ``aud``, ``azp``, ``exp``, ``iat``, ``nonce``
and ``at_hash`` checked.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, JoseError, MissingClaimError
from joserfc.jwk import KeySet, KeySetSerialization

from dit4c_p2p.portal.login.config import OidcProviderConfig
from dit4c_p2p.portal.login.identity import (
    Identity,
    ProviderDenied,
    ProviderNonsense,
    WrongProviderClock,
)
from dit4c_p2p.portal.login.provider_http import provider_client, read_provider_object

_log = logging.getLogger(__name__)

# How long what a provider publishes of itself is taken for true, and how soon after a token with an
# unknown key its keys are fetched again.
_METADATA_S = 600.0
_KEYS_AGAIN_S = 30.0
_CLOCK_SKEW_S = 60
# Signatures only: never "none", never one that is made with the client's secret.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
               "EdDSA", "Ed25519"]  # fmt: skip
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_TIMES = ("exp", "iat", "nbf")
_MAX_SUBJECT_CHARS = 255


class OidcProvider:
    """One provider.

    :param secret: the portal's at the provider; empty for a public client.
    :param clock: the time in seconds since 1970.
    """

    def __init__(
        self, config: OidcProviderConfig, secret: str, *, clock: Callable[[], float]
    ) -> None:
        self.id = config.id
        self.name = config.name
        self._config = config
        self._secret = secret
        self._clock = clock
        self._metadata: dict[str, Any] = {}
        self._metadata_at = float("-inf")
        self._keys: KeySet | None = None
        self._keys_at = float("-inf")
        self._reading = asyncio.Lock()

    async def authorization_url(
        self, redirect_uri: str, *, state: str, nonce: str, verifier: str
    ) -> str:
        """See :class:`IdentityProvider`."""
        async with self._client(redirect_uri) as client:
            metadata = await self._discovered(client)
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"],
                state=state,
                code_verifier=verifier,
                nonce=nonce,
            )
        return str(url)

    async def identity(
        self, redirect_uri: str, answer: Mapping[str, str], *, nonce: str, verifier: str
    ) -> Identity:
        """See :class:`IdentityProvider`."""
        async with self._client(redirect_uri) as client:
            metadata = await self._discovered(client)
            self._check_issuer(metadata, answer)
            if "error" in answer:
                _log.info("provider %s: error %.60s", self.id, answer["error"])
                raise ProviderDenied(self.name)
            token = await client.fetch_token(
                metadata["token_endpoint"],
                grant_type="authorization_code",
                code=answer.get("code", ""),
                redirect_uri=redirect_uri,
                code_verifier=verifier,
            )
            claims = await self._verified(client, metadata, token, nonce)
            userinfo = metadata.get("userinfo_endpoint")
            if isinstance(userinfo, str):
                more = await self._userinfo(client, userinfo, token)
                if more.get("sub") != claims["sub"]:
                    raise ProviderNonsense(self.name, "userinfo is of another subject")
                claims = {**more, **claims}
        return self._identity(claims)

    # ---- inside

    def _client(self, redirect_uri: str) -> Any:
        config = self._config
        return provider_client(
            self.name,
            config.client_id,
            self._secret,
            scope=" ".join(config.scopes),
            redirect_uri=redirect_uri,
            token_endpoint_auth_method=config.token_auth if self._secret else "none",
        )

    async def _discovered(self, client: Any) -> dict[str, Any]:
        """What the provider publishes of itself."""
        async with self._reading:
            if self._clock() - self._metadata_at < _METADATA_S:
                return self._metadata
            issuer = self._config.issuer
            url = issuer.rstrip("/") + "/.well-known/openid-configuration"
            metadata = await read_provider_object(client, self.name, url, withhold_token=True)
            if metadata.get("issuer") != issuer:
                raise ProviderNonsense(self.name, f"it calls itself {metadata.get('issuer')!r}")
            for name in _NEEDED:
                if not self._may_be_asked(metadata.get(name)):
                    raise ProviderNonsense(self.name, f"its {name} is {metadata.get(name)!r}")
            self._metadata, self._metadata_at = metadata, self._clock()
            return metadata

    def _may_be_asked(self, url: object) -> bool:
        """Whether a URL is as safe as the issuer's own."""
        scheme = self._config.issuer.split(":", 1)[0]
        return isinstance(url, str) and url.startswith(("https://", f"{scheme}://"))

    def _check_issuer(self, metadata: Mapping[str, Any], answer: Mapping[str, str]) -> None:
        """The answer is this provider's and no other's (RFC 9207 section 2.4)."""
        said = answer.get("iss")
        needed = metadata.get("authorization_response_iss_parameter_supported") is True
        if (needed or said is not None) and said != self._config.issuer:
            raise ProviderNonsense(self.name, f"the answer's iss is {said!r}")

    async def _verified(
        self, client: Any, metadata: Mapping[str, Any], token: Mapping[str, Any], nonce: str
    ) -> dict[str, Any]:
        """The claims of the ID token."""
        text = token.get("id_token")
        if not isinstance(text, str):
            raise ProviderNonsense(self.name, "there is no ID token")
        try:
            decoded = await self._decoded(client, metadata, text)
            config = self._config
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                options={
                    "iss": {"essential": True, "value": config.issuer},
                    "aud": {"essential": True, "value": config.client_id},
                },
                params={
                    "nonce": nonce,
                    "client_id": config.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=int(self._clock()), leeway=_CLOCK_SKEW_S)
        except JoseError as error:
            missing = isinstance(error, MissingClaimError)
            if isinstance(error, ClaimError) and error.claim in _TIMES and not missing:
                _log.warning("provider %s: the ID token: %s", self.id, error)
                raise WrongProviderClock(self.name) from None
            raise ProviderNonsense(self.name, f"the ID token: {error}") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT_CHARS:
            raise ProviderNonsense(self.name, "the ID token has no subject")
        return dict(claims)

    async def _decoded(self, client: Any, metadata: Mapping[str, Any], text: str) -> Any:
        url = metadata["jwks_uri"]
        async with self._reading:
            known = self._keys if self._clock() - self._keys_at < _METADATA_S else None
            keys = known or await self._fetched_keys(client, url)
        try:
            return jwt.decode(text, keys, algorithms=_ALGORITHMS)
        except JoseError:
            # The provider may have a new key; whoever sends nonsense does not make us ask often.
            if known is None or self._clock() - self._keys_at < _KEYS_AGAIN_S:
                raise
        async with self._reading:
            keys = await self._fetched_keys(client, url)
        return jwt.decode(text, keys, algorithms=_ALGORITHMS)

    async def _fetched_keys(self, client: Any, url: str) -> KeySet:
        found = await read_provider_object(client, self.name, url, withhold_token=True)
        try:
            self._keys = KeySet.import_key_set(KeySetSerialization(keys=found["keys"]))
        except (JoseError, KeyError, TypeError, ValueError) as error:
            raise ProviderNonsense(self.name, f"its key set: {error}") from None
        self._keys_at = self._clock()
        return self._keys

    async def _userinfo(self, client: Any, url: str, token: Mapping[str, Any]) -> dict[str, Any]:
        if not self._may_be_asked(url):
            raise ProviderNonsense(self.name, f"its userinfo_endpoint is {url!r}")
        bearer = {"Authorization": f"Bearer {token.get('access_token', '')}"}
        return await read_provider_object(
            client, self.name, url, headers=bearer, withhold_token=True
        )

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        email = claims.get("email") if isinstance(claims.get("email"), str) else ""
        verified = claims.get("email_verified") in (True, "true")
        domain = str(email).rpartition("@")[2].lower()
        return Identity(
            provider=self.id,
            subject=claims["sub"],
            name=_oidc_text(claims.get("name")),
            username=_oidc_text(claims.get("preferred_username")),
            email=_oidc_text(email),
            domains=frozenset({domain}) if verified and domain else frozenset(),
            claims=dict(claims),
        )


def _oidc_text(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""
