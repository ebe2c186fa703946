"""What image servers ask: who may. See :mod:`dit4c_p2p.messages.image_access`."""

import base64
import binascii
import hashlib
import hmac

from aiohttp import web

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.errors import IdentityError, InvalidToken
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.image_access import AUTH_PATH, SERVER_TOKEN_HEADER, RepositoryVerb
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import Forbidden, Unauthorized
from dit4c_p2p.portal.instances.images import Rights, rights_of_token

_MAX_BASIC_CHARS = 12 * 1024


class CredentialsNeeded(Unauthorized):
    """Who calls an image server has no good credentials. A proxy passes the challenge on."""

    challenge = 'Basic realm="images"'


def image_server_routes() -> list[web.RouteDef]:
    """For image servers, and for a stock registry's proxy with its static token."""
    verbs = "|".join(RepositoryVerb)
    return [
        web.get(f"{AUTH_PATH}/login", may_log_in),
        web.get(f"{AUTH_PATH}/{{verb:{verbs}}}/{{repository:.+}}", may_for_image_server),
    ]


async def may_log_in(request: web.Request) -> web.Response:
    """The caller's credentials are good for something."""
    server = await _image_server(request)
    await _rights_for_image_servers(request, server)
    return web.Response(status=204)


async def may_for_image_server(request: web.Request) -> web.Response:
    """The caller may do this to the repository, now."""
    server = await _image_server(request)
    rights = await _rights_for_image_servers(request, server)
    verb, repository = RepositoryVerb(request.match_info["verb"]), request.match_info["repository"]
    if rights is None or not await services(request).image_access.may(rights, verb, repository):
        raise Forbidden(f"this {verb} is not allowed")
    return web.Response(status=204)


async def _image_server(request: web.Request) -> PeerName:
    """Which image server asks.

    :raises Forbidden: none that is known.
    """
    parts, text = services(request), request.headers.get(SERVER_TOKEN_HEADER, "")
    given = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    for entry in parts.config.imageservers:
        if entry.token_sha256 and hmac.compare_digest(given, entry.token_sha256):
            return PeerName.parse(entry.info.name)
    try:
        head = tokens.read_head(text)
        if head.issuer.kind is not Kind.IMAGESERVER:
            raise InvalidToken("this is not the token of an image server")
        token = tokens.verify(
            text,
            await parts.registry.in_force(head.issuer),
            parts.config.url,
            now=parts.clock(),
        )
    except IdentityError as error:
        await parts.audit.record_refusal("image_server.login", error)
        raise Forbidden(str(error), hint=error.hint) from None
    parts.registry.seen(token.fingerprint)
    parts.known.proved(request.remote)
    return token.issuer


async def _rights_for_image_servers(request: web.Request, server: PeerName) -> Rights | None:
    """What the caller's credentials are good for; None: nothing that they name properly.

    :raises CredentialsNeeded: there are none, or they are not good.
    """
    parts = services(request)
    user, secret = _credentials_for_image_servers(request.headers.get("Authorization", ""))
    claimed = ""
    try:
        head = tokens.read_head(secret)
        claimed = str(head.issuer)
        if user not in ("", claimed):
            raise InvalidToken("the token is another's than the user name says")
        token = tokens.verify(
            secret, await parts.registry.in_force(head.issuer), str(server), now=parts.clock()
        )
    except InvalidToken as error:
        if not claimed:
            found = await parts.image_access.find_secret(user, secret)
            if found is not None:
                return found
        await parts.audit.record_refusal("image.login", error, about=claimed or user[:40])
        raise CredentialsNeeded(str(error), hint=error.hint) from None
    parts.registry.seen(token.fingerprint)
    return rights_of_token(token)


def _credentials_for_image_servers(field: str) -> tuple[str, str]:
    """User name (empty for a bearer token) and secret (RFC 6750, RFC 7617).

    :raises CredentialsNeeded: there are none.
    """
    scheme, _, rest = field.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" if rest:
            return "", rest
        case "basic" if len(rest) <= _MAX_BASIC_CHARS:
            try:
                text = base64.b64decode(rest, validate=True).decode()
            except (binascii.Error, ValueError):
                text = ""
            user, colon, secret = text.partition(":")
            if colon and user and secret:
                return user, secret
    raise CredentialsNeeded("credentials are needed", hint="log in with a name and a secret")
