"""Authlib's authorization server over a snapshot of the database, without I/O.

Stricter than Authlib's defaults: PKCE with S256 always, ``private_key_jwt`` only, the algorithm
fixed by the key, redirect URIs compared as they are, no parameter twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncssh
from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientMixin,
    InvalidClientError,
    InvalidRequestError,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from joserfc.jwk import KeySet

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.errors import InvalidToken
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.portal.models import OAuthCode, OAuthToken
from dit4c_p2p.portal.opaque_tokens import new_token

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUTH_METHOD = "private_key_jwt"


class OAuthClient(ClientMixin):  # type: ignore[misc]
    """An instance as an OAuth client: it exists while a key of it is in force."""

    def __init__(
        self, name: PeerName, redirect_uri: str, keys: tuple[asyncssh.SSHKey, ...]
    ) -> None:
        self.name = name
        self.redirect_uri = redirect_uri
        self.keys = keys

    def get_client_id(self) -> str:
        """``instance-<id>``."""
        return str(self.name)

    def get_default_redirect_uri(self) -> None:
        """Return None: the request has to contain the redirect URI."""

    def get_allowed_scope(self, scope: str | None) -> str:
        """There are no scopes."""
        return ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether the URI is exactly the registered one."""
        return redirect_uri == self.redirect_uri

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether the method is ``private_key_jwt``, the only one at every endpoint."""
        return method == AUTH_METHOD

    def check_response_type(self, response_type: str) -> bool:
        """Whether the response type is ``code``, the only one."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the grant type is the authorization code, the only one."""
        return grant_type == "authorization_code"


@dataclass(frozen=True)
class OAuthSubject:
    """The person who grants access, from a portal session."""

    person: str
    session: str


@dataclass
class AuthorizationCode:
    """A code's row as Authlib reads it."""

    row: OAuthCode

    @property
    def code_challenge(self) -> str:
        """RFC 7636 section 4.2."""
        return self.row.challenge

    @property
    def code_challenge_method(self) -> str:
        """The only one."""
        return "S256"

    def get_redirect_uri(self) -> str:
        """Return the redirect URI that the code was sent to."""
        return self.row.redirect_uri

    def get_scope(self) -> str:
        """There are no scopes."""
        return ""


@dataclass
class AccessToken:
    """An access token's row as Authlib reads it."""

    row: OAuthToken
    now: float

    def is_expired(self) -> bool:
        """Whether the token has expired."""
        return self.row.expires_at <= self.now

    def is_revoked(self) -> bool:
        """Whether the token was revoked."""
        return self.row.revoked_at is not None


@dataclass
class OAuthSnapshot:
    """The rows that were read, and (``issued_…``) the rows that the core decided to write."""

    issuer: str
    now: float
    token_lifetime_s: int
    client: OAuthClient | None = None
    code: OAuthCode | None = None
    token: OAuthToken | None = None
    issued_code: str | None = None
    issued_token: str | None = None
    issued_to: OAuthSubject | None = None
    challenge: str = ""


@dataclass
class OAuthAnswer:
    """An HTTP answer; ``body`` is JSON to be, or empty with a ``location``."""

    status: int
    body: Any = ""
    location: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class OAuthRequest(OAuth2Request):  # type: ignore[misc]
    """A request whose parameters were read already, each once."""

    def __init__(self, method: str, params: Mapping[str, str]) -> None:
        # Authlib only looks whether this is https. Plain HTTP exists on loopback alone, and that is
        # checked where the portal's URL is configured.
        super().__init__(method, "https://portal.invalid/")
        self.payload = BasicOAuth2Payload(dict(params))

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters of a POST."""
        params: Mapping[str, str] = self.payload.data
        return params

    @property
    def args(self) -> Mapping[str, str]:
        """The parameters of a GET."""
        params: Mapping[str, str] = self.payload.data
        return params


class _RequiredPkce(CodeChallenge):  # type: ignore[misc]
    """Authlib requires PKCE of public clients only and allows ``plain``."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        params = grant.request.payload.data
        if not params.get("code_challenge") or params.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with code_challenge_method=S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)


class _CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = [AUTH_METHOD]

    def generate_authorization_code(self) -> str:
        return new_token()

    def save_authorization_code(self, code: str, request: OAuthRequest) -> None:
        snapshot: OAuthSnapshot = self.server.snapshot
        snapshot.issued_code = code
        snapshot.issued_to = request.user
        snapshot.challenge = request.payload.data["code_challenge"]

    def query_authorization_code(self, code: str, client: OAuthClient) -> AuthorizationCode | None:
        row = self.server.snapshot.code
        if row is None or row.instance != client.name.id:
            return None
        return AuthorizationCode(row)

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """It was spent by a conditional update before the core was asked."""

    def authenticate_user(self, authorization_code: AuthorizationCode) -> OAuthSubject:
        return OAuthSubject(authorization_code.row.person_id, authorization_code.row.session)


class _ClientAssertion(JWTBearerClientAssertion):  # type: ignore[misc]
    """Authlib's own check refuses EdDSA; ours fixes the algorithm by the key and caps the lifetime.

    That a token is used once is seen to by the transaction around the core.
    """

    CLIENT_AUTH_METHOD = AUTH_METHOD

    def __init__(self, snapshot: OAuthSnapshot) -> None:
        super().__init__(validate_jti=False)
        self._snapshot = snapshot

    def resolve_client_public_key(self, client: OAuthClient) -> KeySet:
        return KeySet([tokens.to_jwk(key) for key in client.keys])

    def process_assertion_claims(self, assertion: str, resolve_key: Any) -> Mapping[str, Any]:
        client = self._snapshot.client
        try:
            if client is None:
                raise InvalidToken("no such client")
            return check_client_assertion(assertion, client, self._snapshot).claims
        except InvalidToken as error:
            raise InvalidClientError(description=_plain_description(str(error))) from error


class _TokenIntrospection(IntrospectionEndpoint):  # type: ignore[misc]
    CLIENT_AUTH_METHODS = [AUTH_METHOD]

    def query_token(self, token_string: str, token_type_hint: str | None) -> AccessToken | None:
        snapshot: OAuthSnapshot = self.server.snapshot
        return AccessToken(snapshot.token, snapshot.now) if snapshot.token else None

    def check_permission(
        self, token: AccessToken, client: OAuthClient, request: OAuthRequest
    ) -> bool:
        return token.row.instance == client.name.id

    def introspect_token(self, token: AccessToken) -> dict[str, Any]:
        snapshot: OAuthSnapshot = self.server.snapshot
        return {
            "active": True,
            "client_id": str(snapshot.client.name) if snapshot.client else "",
            "sub": token.row.person_id,
            "iss": snapshot.issuer,
            "token_type": "Bearer",
            "exp": int(token.row.expires_at),
        }


class AuthlibCore(AuthorizationServer):  # type: ignore[misc]
    """One request's worth of authorization server."""

    def __init__(self, snapshot: OAuthSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.register_client_auth_method(AUTH_METHOD, _ClientAssertion(snapshot))
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: new_token(), expires_generator=snapshot.token_lifetime_s
            ),
        )
        self.register_grant(_CodeGrant, [_RequiredPkce(required=True)])
        self.register_endpoint(_TokenIntrospection)

    # ---- what Authlib asks of a framework

    def query_client(self, client_id: str) -> OAuthClient | None:
        """Return the client of this request; the snapshot has no other."""
        client = self.snapshot.client
        return client if client is not None and client.get_client_id() == client_id else None

    def save_token(self, token: dict[str, Any], request: OAuthRequest) -> None:
        """Keep the token for writing, and add its person to the response."""
        self.snapshot.issued_token = token["access_token"]
        self.snapshot.issued_to = request.user
        token["sub"] = request.user.person

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Do nothing: no receiver exists."""

    def create_oauth2_request(self, request: OAuthRequest) -> OAuthRequest:
        """Return the request, which has the right type already."""
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> OAuthAnswer:
        """Return Authlib's triple as an :class:`OAuthAnswer`."""
        fields = dict(headers)
        location = fields.pop("Location", None)
        if isinstance(body, list):
            body = dict(body)
        return OAuthAnswer(status, body, location, fields)

    # ---- the three endpoints

    def authorize(self, request: OAuthRequest, subject: OAuthSubject) -> OAuthAnswer:
        """RFC 6749 section 4.1.2; every redirect says who sends it (RFC 9207)."""
        try:
            grant = self.get_authorization_grant(request)
            answer: OAuthAnswer = self.create_authorization_response(request, subject, grant)
        except OAuth2Error as error:
            error.state = request.payload.state
            answer = self.handle_error_response(request, error)
        except ValueError:
            answer = self.handle_error_response(request, self._malformed(request))
        if answer.location is not None:
            answer.location = add_params_to_uri(answer.location, [("iss", self.snapshot.issuer)])
        return answer

    def token(self, request: OAuthRequest) -> OAuthAnswer:
        """RFC 6749 section 4.1.3."""
        try:
            answer: OAuthAnswer = self.create_token_response(request)
        except ValueError:
            answer = self.handle_error_response(request, InvalidRequestError("malformed"))
        return answer

    def introspect(self, request: OAuthRequest) -> OAuthAnswer:
        """RFC 7662."""
        answer: OAuthAnswer = self.create_endpoint_response(
            IntrospectionEndpoint.ENDPOINT_NAME, request
        )
        return answer

    def _malformed(self, request: OAuthRequest) -> InvalidRequestError:
        """Authlib puts what it was sent into its texts, and fails when that has odd characters."""
        client = self.snapshot.client
        return InvalidRequestError(
            "a parameter is malformed",
            redirect_uri=client.redirect_uri if client else None,
            state=request.payload.state,
        )


def check_client_assertion(
    assertion: str, client: OAuthClient, snapshot: OAuthSnapshot
) -> tokens.VerifiedToken:
    """A client's JWT (RFC 7523 section 3), not yet marked as used.

    :raises InvalidToken: not signed by the client's key, not for this issuer, too old.
    """
    token = tokens.verify(assertion, client.keys, snapshot.issuer, now=snapshot.now)
    if token.issuer != client.name or token.claims.get("sub") != str(client.name):
        raise InvalidToken("iss and sub must both be the client")
    return token


def _plain_description(text: str) -> str:
    """Remove the characters that RFC 6749 section 5.2 forbids in a description."""
    return "".join(char for char in text if " " <= char <= "~" and char not in '"\\')
