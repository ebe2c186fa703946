"""``keys``: the published keys, for admins; and who is calling."""

from msgspec import UNSET

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.enrol import NewKey
from dit4c_p2p.portal.accounts import api_tokens
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.errors import BadRequest, Conflict
from dit4c_p2p.portal.http.peer_auth import authenticate_peer, bearer_token
from dit4c_p2p.portal.models import SshKey
from dit4c_p2p.portal.paging import page_of_rows
from dit4c_p2p.portal.schemas import (
    CallerView,
    ChallengeView,
    KeysQuery,
    KeyView,
    time_or_none,
    time_text,
)
from dit4c_p2p.portal.services.keys import revoke_key


async def list_keys(call: Call, query: KeysQuery) -> list[KeyView]:
    """Every key there ever was, the newest first."""
    await call.parts.registry.write_seen()
    rows = SshKey.all()
    if isinstance(query.kind, Kind):
        rows = rows.filter(name__startswith=f"{query.kind.value}-")
    if query.in_force is not UNSET:
        rows = rows.filter(revoked_at__isnull=query.in_force)
    found, cursor = await page_of_rows(
        rows, query.limit, query.cursor, time="published_at", id="fingerprint"
    )
    call.next_page(cursor)
    return [key_view(key) for key in found]


async def challenge(call: Call) -> ChallengeView:
    """A nonce that a new key has to sign."""
    nonce = await call.parts.enrolment.challenge(call.who.id)
    return ChallengeView(nonce=nonce, expires_in=call.parts.config.limits.enrol_nonce_s)


async def enrol(call: Call, body: NewKey) -> KeyView:
    """Bring a key into force, with proof that whoever asks has it; again is fine."""
    try:
        name = PeerName.of(body.kind, body.id)
    except InvalidName as error:
        field = "id" if body.kind in list(Kind) else "kind"
        raise BadRequest(str(error), field=field, hint=error.hint) from None
    fingerprint = await call.parts.enrolment.enrol(
        call.who.id,
        name,
        parse_public(body.public_key),
        body.nonce,
        body.signature,
        scheduler=body.scheduler,
        owner=body.owner,
    )
    if body.owner is not None:
        call.parts.grant_events.all_changed()
    call.located(f"/ssh-keys/{fingerprint}")
    return key_view(await SshKey.get(fingerprint=fingerprint))


async def revoke(call: Call) -> KeyView:
    """Put a key out of force, for good; again is fine."""
    fingerprint = call.path("fingerprint")
    await revoke_key(call.parts, fingerprint, by=call.who.id)
    return key_view(await SshKey.get(fingerprint=fingerprint))


async def whoami(call: Call) -> CallerView:
    """Who the portal takes the caller for: a person by API token, or a peer by JWT."""
    parts = call.parts
    who = await api_tokens.find_token(
        bearer_token(call.request), parts.last_used, now=parts.clock()
    )
    if who is not None:
        return CallerView(kind="user", id=who.id, name=who.name, admin=who.is_admin)
    issuer = (await authenticate_peer(call.request, *Kind)).issuer
    return CallerView(kind=issuer.kind.value, id=issuer.id, name=str(issuer), admin=False)


def key_view(key: SshKey) -> KeyView:
    """The API's form of a key."""
    name = PeerName.parse(key.name)
    return KeyView(
        fingerprint=key.fingerprint,
        name=key.name,
        kind=name.kind.value,
        id=name.id,
        published=time_text(key.published_at),
        revoked=time_or_none(key.revoked_at),
        last_seen=time_or_none(key.seen_at),
        in_force=key.revoked_at is None,
    )


ENDPOINTS = (
    Endpoint("GET", "keys", list_keys, allowed="admin"),
    Endpoint("POST", "keys/challenge", challenge, allowed="admin", status=201),
    Endpoint("POST", "keys", enrol, allowed="admin", status=201, location=True, errors=(Conflict,)),
    Endpoint("POST", "keys/{fingerprint}/revoke", revoke, allowed="admin"),
    Endpoint("GET", "whoami", whoami, allowed="anybody"),
)
