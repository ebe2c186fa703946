"""``/api/v1/keys``: the published keys, for admins; and who is calling."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.enrol import NewKey
from dit4c_p2p.portal.answers import json_answer
from dit4c_p2p.portal.api.auth import admin
from dit4c_p2p.portal.bodies import read_json
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import SshKey
from dit4c_p2p.portal.peers.auth import authenticate, bearer
from dit4c_p2p.portal.people import token_person
from dit4c_p2p.portal.services import Services, services

_PREFIX = "/api/v1"


def routes() -> list[web.RouteDef]:
    """See the package's table."""
    return [
        web.get(f"{_PREFIX}/keys", list_keys),
        web.post(f"{_PREFIX}/keys/challenge", challenge),
        web.post(f"{_PREFIX}/keys", enrol),
        web.post(f"{_PREFIX}/keys/{{fingerprint}}/revoke", revoke),
        web.get(f"{_PREFIX}/whoami", whoami),
    ]


async def list_keys(request: web.Request) -> web.Response:
    """Every key there ever was, the newest first."""
    await admin(request)
    await services(request).registry.write_seen()
    return json_answer([key_view(key) for key in await SshKey.all().order_by("-published_at")])


async def challenge(request: web.Request) -> web.Response:
    """A nonce for an enrolment."""
    parts, who = services(request), await admin(request)
    nonce = await parts.enrolment.challenge(who.id)
    lifetime_s = parts.config.limits.enrol_nonce_s
    return json_answer({"nonce": nonce, "expires_in": lifetime_s}, status=201)


async def enrol(request: web.Request) -> web.Response:
    """Bring a key into force."""
    parts, who = services(request), await admin(request)
    new = await read_json(request, NewKey)
    try:
        name = PeerName.of(new.kind, new.id)
    except InvalidName as error:
        field = "id" if new.kind in list(Kind) else "kind"
        raise BadRequest(str(error), field=field, hint=error.hint) from None
    fingerprint = await parts.enrolment.enrol(
        who.id,
        name,
        parse_public(new.public_key),
        new.nonce,
        new.signature,
        scheduler=new.scheduler,
    )
    key = await SshKey.get(fingerprint=fingerprint)
    return json_answer(key_view(key), status=201, Location=_location(parts, fingerprint))


async def revoke(request: web.Request) -> web.Response:
    """Put a key out of force, for good; again is fine."""
    who = await admin(request)
    fingerprint = request.match_info["fingerprint"]
    await revoke_key(services(request), fingerprint, by=who.id)
    return json_answer(key_view(await SshKey.get(fingerprint=fingerprint)))


async def revoke_key(parts: Services, fingerprint: str, *, by: str) -> None:
    """Revoke and announce; also for the admin's page.

    :raises NotFound: no such key.
    :raises BadRequest: it is the portal's own.
    """
    key = await SshKey.get_or_none(fingerprint=fingerprint)
    if key is not None and key.name == str(parts.config.name):
        raise BadRequest("the portal's own key signs everything and can't be revoked here")
    async with in_transaction("portal"):
        changes = await parts.registry.revoke(fingerprint, by=by)
    parts.registry.announce(changes)


async def whoami(request: web.Request) -> web.Response:
    """Who the portal takes the caller for: a person by API token, or a peer by JWT."""
    who = await token_person(bearer(request))
    if who is not None:
        return json_answer({"kind": "user", "id": who.id, "name": who.name, "admin": who.is_admin})
    token = await authenticate(request, *Kind)
    return json_answer(
        {
            "kind": token.issuer.kind.value,
            "id": token.issuer.id,
            "name": str(token.issuer),
            "admin": False,
        }
    )


def key_view(key: SshKey) -> dict[str, Any]:
    """The API's form of a key."""
    name = PeerName.parse(key.name)
    return {
        "fingerprint": key.fingerprint,
        "name": key.name,
        "kind": name.kind.value,
        "id": name.id,
        "published": _iso(key.published_at),
        "revoked": _iso(key.revoked_at),
        "last_seen": _iso(key.seen_at),
        "in_force": key.revoked_at is None,
    }


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _location(parts: Services, fingerprint: str) -> str:
    return f"{parts.config.url}/ssh-keys/{fingerprint}"
