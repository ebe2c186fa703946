"""The authorization server: reads, lets the core decide, and writes, in one transaction.

A client's JWT and the code are claimed before the core decides, by statements that succeed once. Of
concurrent requests with the same code only one gets a token. A code that is used again revokes the
tokens that were issued for it (RFC 6749 section 4.1.2).
"""

import logging
import time
from collections.abc import Callable, Mapping

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.errors import InvalidName, InvalidToken, WrongClock
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.pod import CALLBACK_PATH
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.portal.accounts.people import account_in_force
from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.errors import NoSuchInstance, NotFound
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.models import Instance, OAuthCode, OAuthToken, Person, Session, UsedToken
from dit4c_p2p.portal.oauth.authlib_adapter import (
    ASSERTION_TYPE,
    AUTH_METHOD,
    AuthlibCore,
    OAuthAnswer,
    OAuthClient,
    OAuthRequest,
    OAuthSnapshot,
    OAuthSubject,
    check_client_assertion,
)
from dit4c_p2p.portal.opaque_tokens import digest

_log = summed(logging.getLogger(__name__), logging.INFO)

AUTHORIZE_PATH = "/oauth/authorize"
TOKEN_PATH = "/oauth/token"
INTROSPECT_PATH = "/oauth/introspect"
# Far above what an honest client sends; keeps a redirect below any header limit.
_MAX_STATE_CHARS = 2048
# From these on nobody is let in any more.
_GOING = (State.DISCARDING, State.DISCARDED)


class OAuthServer:
    """The three endpoints and the metadata document."""

    def __init__(
        self,
        config: PortalConfig,
        registry: KeyRegistry,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._registry = registry
        self._audit = audit
        self._clock = clock

    def metadata(self) -> dict[str, object]:
        """RFC 8414 section 2."""
        url = self._config.url
        return {
            "issuer": url,
            "authorization_endpoint": url + AUTHORIZE_PATH,
            "token_endpoint": url + TOKEN_PATH,
            "introspection_endpoint": url + INTROSPECT_PATH,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [AUTH_METHOD],
            "token_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
            "introspection_endpoint_auth_methods_supported": [AUTH_METHOD],
            "introspection_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
            "authorization_response_iss_parameter_supported": True,
        }

    async def authorize(self, params: Mapping[str, str], session: LoggedIn) -> OAuthAnswer:
        """Send the creator of an instance back to it with a code.

        :raises NotFound: no such client, somebody else's instance, or another redirect URI than
            the instance's own: then nobody is sent anywhere, and the core is not asked.
        :raises NotAudited: it can't be written down.
        """
        try:
            return await self._authorize(params, session)
        except NotFound as error:
            about = params.get("client_id", "")
            await self._audit.record_refusal("authorize", error, who=session.who.id, about=about)
            raise

    async def _authorize(self, params: Mapping[str, str], session: LoggedIn) -> OAuthAnswer:
        # In one transaction, so that a code is never made after a logout that would have ended it.
        async with in_transaction("portal"):
            snapshot = self._snapshot()
            snapshot.client = client = await self._client(params.get("client_id", ""))
            mine = client is not None and await Instance.exists(
                id=client.name.id, owner_id=session.who.id, discard_asked_at=None
            )
            here = await self._goes_on(session.digest, snapshot.now)
            if client is None or not mine or not here:
                raise NoSuchInstance()
            if params.get("redirect_uri") != client.redirect_uri:
                raise NotFound("this is not where the instance takes its users")
            if len(params.get("state", "")) > _MAX_STATE_CHARS:
                return _refused_oauth_request("invalid_request", "state is too long")
            answer = AuthlibCore(snapshot).authorize(
                OAuthRequest("GET", params), OAuthSubject(session.who.id, session.digest)
            )
            if snapshot.issued_code is not None:
                await OAuthCode.create(
                    digest=digest(snapshot.issued_code),
                    instance=client.name.id,
                    person_id=session.who.id,
                    session=session.digest,
                    redirect_uri=client.redirect_uri,
                    challenge=snapshot.challenge,
                    expires_at=snapshot.now + self._config.limits.code_s,
                )
                await self._audit.record_required("authorize", about=str(client.name))
                once_committed(_log.info, "%s: code issued to %s", client.name, session.who.id)
            return answer

    async def token(self, params: Mapping[str, str]) -> OAuthAnswer:
        """Exchange a code for a token, once."""
        code = digest(params.get("code", ""))
        async with in_transaction("portal"):
            snapshot = self._snapshot()
            client = await self._prove(snapshot, params)
            if isinstance(client, OAuthAnswer):
                return client
            mine = OAuthCode.filter(digest=code, instance=client.name.id)
            spent = await mine.filter(used_at=None, expires_at__gt=snapshot.now).update(
                used_at=snapshot.now
            )
            if spent:
                snapshot.code = await mine.get()
                code_row = snapshot.code
                if not await self._may_come_in(code_row.person_id, code_row.session, snapshot.now):
                    snapshot.code = None
            else:
                ended = await self._end_tokens_of(code, client, snapshot.now)
                if ended:
                    once_committed(
                        _log.warning, "%s: a code came back; its tokens end", client.name
                    )
            answer = AuthlibCore(snapshot).token(OAuthRequest("POST", params))
            if snapshot.issued_token is not None and snapshot.issued_to is not None:
                await OAuthToken.create(
                    digest=digest(snapshot.issued_token),
                    code=code,
                    instance=client.name.id,
                    person_id=snapshot.issued_to.person,
                    session=snapshot.issued_to.session,
                    created_at=snapshot.now,
                    expires_at=snapshot.now + snapshot.token_lifetime_s,
                )
                once_committed(_log.info, "%s: token issued", client.name)
        return answer

    async def introspect(self, params: Mapping[str, str]) -> OAuthAnswer:
        """Answer whether an access token of this client is valid."""
        async with in_transaction("portal"):
            snapshot = self._snapshot()
            client = await self._prove(snapshot, params)
            if isinstance(client, OAuthAnswer):
                return client
            snapshot.token = await self._token(params.get("token", ""), snapshot.now)
            return AuthlibCore(snapshot).introspect(OAuthRequest("POST", params))

    async def remove_expired(self) -> None:
        """Forget what has no more effect; a code stays as long as a token made from it could."""
        now = self._clock()
        await UsedToken.filter(expires_at__lt=now).delete()
        await OAuthToken.filter(expires_at__lt=now).delete()
        kept_s = self._config.limits.access_token_s
        await OAuthCode.filter(expires_at__lt=now - kept_s).delete()

    def _snapshot(self) -> OAuthSnapshot:
        return OAuthSnapshot(self._config.url, self._clock(), self._config.limits.access_token_s)

    async def _client(self, client_id: str) -> OAuthClient | None:
        """The client of this id, if its instance is there and has a key in force."""
        try:
            name = PeerName.parse(client_id)
        except InvalidName:
            return None
        if name.kind is not Kind.INSTANCE:
            return None
        instance = await Instance.get_or_none(id=name.id)
        keys = await self._registry.in_force(name)
        if instance is None or instance.state in _GOING or not keys:
            return None
        redirect_uri = self._config.instance_url(name.id) + CALLBACK_PATH.removeprefix("/")
        return OAuthClient(name, redirect_uri, keys)

    async def _prove(
        self, snapshot: OAuthSnapshot, params: Mapping[str, str]
    ) -> OAuthClient | OAuthAnswer:
        """The client that signed the assertion, which is spent then; or the answer if there is none
        or it is not good.

        Only who has the client's key is told more: that a clock is off, as the ``code`` (RFC 6749
        section 5.2 lets an error have more members).
        """
        assertion = params.get("client_assertion", "")
        unproved = _refused_oauth_request("invalid_client", "the client did not prove its key")
        if params.get("client_assertion_type") != ASSERTION_TYPE:
            return unproved
        try:
            head = tokens.read_head(assertion)
            client = await self._client(str(head.issuer))
            if client is None or params.get("client_id", str(head.issuer)) != str(head.issuer):
                return unproved
            token = check_client_assertion(assertion, client, snapshot)
        except InvalidToken as error:
            _log.warning("a client's token was refused: %s", error)
            await self._audit.record_refusal("peer.login", error, about=params.get("client_id", ""))
            if isinstance(error, WrongClock):
                return _refused_oauth_request("invalid_client", error.one_line(), code=error.code)
            return unproved
        self._registry.seen(token.fingerprint)
        if not await claim_peer_token(token):
            return _refused_oauth_request("invalid_client", "the client's token was used before")
        snapshot.client = client
        return client

    async def _token(self, text: str, now: float) -> OAuthToken | None:
        """An access token, unless its person may not come in any more, or the session that it was
        made from is over."""
        token = await OAuthToken.get_or_none(digest=digest(text))
        if token is None or not await self._may_come_in(token.person_id, token.session, now):
            return None
        return token

    async def _may_come_in(self, person: str, session: str, now: float) -> bool:
        found = await Person.get_or_none(id=person)
        return (
            found is not None and account_in_force(found, now) and await self._goes_on(session, now)
        )

    async def _goes_on(self, session: str, now: float) -> bool:
        """Whether a portal session, named by its digest, has neither ended nor expired."""
        limits = self._config.limits
        return await Session.exists(
            digest=session,
            ended_at=None,
            created_at__gt=now - limits.session_s,
            used_at__gt=now - limits.session_idle_s,
        )

    async def _end_tokens_of(self, code: str, client: OAuthClient, now: float) -> int:
        return await OAuthToken.filter(code=code, instance=client.name.id, revoked_at=None).update(
            revoked_at=now
        )


async def claim_peer_token(token: tokens.VerifiedToken) -> bool:
    """Mark a peer's token as used, in the transaction that acts on it; False if it was before."""
    used = digest(token.fingerprint, token.jti)
    if await UsedToken.exists(digest=used):
        return False
    await UsedToken.create(digest=used, expires_at=token.expires + tokens.CLOCK_SKEW_S)
    return True


_ALGORITHMS = ["Ed25519", "EdDSA", "ES256", "ES384", "ES512", "PS256"]


def _refused_oauth_request(error: str, text: str, **more: str) -> OAuthAnswer:
    return OAuthAnswer(
        400,
        {"error": error, "error_description": text, **more},
        headers={"Cache-Control": "no-store"},
    )
