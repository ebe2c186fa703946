"""Every endpoint of the API, and the document that describes them."""

from aiohttp import web

from dit4c_p2p.portal.api import (
    checkpoints,
    clusters,
    groups,
    instances,
    invitations,
    keys,
    openapi,
    people,
    pull_secrets,
    saved,
    storage,
    tools,
    user_keys,
)
from dit4c_p2p.portal.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *tools.ENDPOINTS,
    *instances.ENDPOINTS,
    *saved.ENDPOINTS,
    *checkpoints.ENDPOINTS,
    *clusters.ENDPOINTS,
    *people.ENDPOINTS,
    *invitations.ENDPOINTS,
    *keys.ENDPOINTS,
    *user_keys.ENDPOINTS,
    *groups.ENDPOINTS,
    *storage.ENDPOINTS,
    *pull_secrets.ENDPOINTS,
)


def routes(url: str) -> list[web.RouteDef]:
    """For the portal at this canonical URL."""
    return [*(endpoint.route() for endpoint in ENDPOINTS), openapi.openapi_route(ENDPOINTS, url)]
