"""Authentication of peers by ``Authorization: Bearer <JWT signed by the published key>``."""

from aiohttp import web

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.errors import InvalidToken
from dit4c_p2p.identity.names import Kind
from dit4c_p2p.identity.tokens import VerifiedToken
from dit4c_p2p.portal.audit import set_request_identity
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import Forbidden, Unauthorized


async def authenticate_peer(request: web.Request, *kinds: Kind) -> VerifiedToken:
    """Who calls; whoever acts on it claims the token in the same transaction.

    :raises Unauthorized: no token, or not one of a key in force; its code is the reason's, such as
        ``clock``.
    :raises Forbidden: of a kind of peer that has no business here.
    """
    parts, text = services(request), bearer_token(request)
    claimed = ""
    try:
        head = tokens.read_head(text)
        claimed = str(head.issuer)
        token = tokens.verify(
            text,
            await parts.registry.in_force(head.issuer),
            parts.config.url,
            now=parts.clock(),
        )
    except InvalidToken as error:
        await parts.audit.record_refusal("peer.login", error, about=claimed)
        refused = Unauthorized(str(error), hint=error.hint)
        refused.code = error.code
        raise refused from None
    if token.issuer.kind not in kinds:
        raise Forbidden(f"this is not for a {token.issuer.kind}")
    set_request_identity(str(token.issuer), key=token.fingerprint)
    parts.registry.seen(token.fingerprint)
    parts.known.proved(request.remote)
    return token


def bearer_token(request: web.Request) -> str:
    """The token of the ``Authorization`` header (RFC 6750 section 2.1).

    :raises Unauthorized: there is none, or what can't be one.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip() or not token.isascii():
        raise Unauthorized("a token is needed", hint="send Authorization: Bearer TOKEN")
    return token.strip()
