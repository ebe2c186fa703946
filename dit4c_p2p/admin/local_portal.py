"""Administration on the portal's own machine, whether or not the portal runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dit4c_p2p.database import databases
from dit4c_p2p.portal import Portal
from dit4c_p2p.settings import PortalSettings

# Replaced each time, so that there is one at the most.
_TOKEN_LABEL = "dit4c key"


async def first_admin_login_link(settings: PortalSettings, admin: str) -> str:
    """Create an admin with this id if there is none; return a link that logs them in once."""
    async with _opened_local_portal(settings) as portal:
        await portal.ensure_admin(admin)
        return _login_url(settings, await portal.create_login_link(admin))


async def local_login_link(settings: PortalSettings, person: str) -> str:
    """A link that logs a person in once.

    :raises DitError: no such person.
    """
    async with _opened_local_portal(settings) as portal:
        return _login_url(settings, await portal.create_login_link(person))


async def local_admin_token(settings: PortalSettings, admin: str) -> str:
    """Return an API token for a command on this machine; the one before it ends.

    :raises DitError: no such person.
    """
    async with _opened_local_portal(settings) as portal:
        return await portal.create_api_token(admin, _TOKEN_LABEL)


def _login_url(settings: PortalSettings, token: str) -> str:
    return f"{settings.url}/login/{token}"


@asynccontextmanager
async def _opened_local_portal(settings: PortalSettings) -> AsyncIterator[Portal]:
    """Open a portal with its database, without serving."""
    config = settings.config()
    async with databases([config.database_spec]):
        yield Portal(config)
