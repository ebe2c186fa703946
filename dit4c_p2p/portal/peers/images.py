"""``PUT /images/``: an instance's upload helper says that its image is at the image server."""

import json

import msgspec
from aiohttp import web

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.saved_images import ImageUploaded
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import Unauthorized
from dit4c_p2p.portal.http.peer_auth import authenticate_peer
from dit4c_p2p.portal.http.request_body import read_body
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.oauth.server import claim_peer_token


def saved_image_routes() -> list[web.RouteDef]:
    """For instances."""
    return [web.put("/images/", image_uploaded)]


async def image_uploaded(request: web.Request) -> web.Response:
    """The portal verifies, countersigns, and tells the scheduler."""
    parts = services(request)
    token = await authenticate_peer(request, Kind.INSTANCE)
    said = decode(await read_body(request), ImageUploaded)
    async with in_transaction("portal"):
        if not await claim_peer_token(token):
            raise Unauthorized("the token was used before", hint="make a new one for each call")
        countersigned = await parts.saves.uploaded(token.issuer.id, said)
    parts.instances.told(await Instance.get(id=token.issuer.id))
    return json_answer(json.loads(msgspec.json.encode(countersigned)))
