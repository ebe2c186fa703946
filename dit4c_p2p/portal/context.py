"""The portal's parts for request handlers, as one typed object."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from dit4c_p2p.messages.public import PublicConfig
from dit4c_p2p.portal.accounts.ended_access import AccessEnds
from dit4c_p2p.portal.accounts.last_used import LastUsed
from dit4c_p2p.portal.accounts.sessions import LoginSessions
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.http.static_files import StaticFiles
from dit4c_p2p.portal.instances.checkpoints import Checkpoints
from dit4c_p2p.portal.instances.image_store import ImageStore
from dit4c_p2p.portal.instances.images import SavedImageAccess
from dit4c_p2p.portal.instances.instances import Instances
from dit4c_p2p.portal.instances.memory import MemoryTable
from dit4c_p2p.portal.instances.moves import Moves
from dit4c_p2p.portal.instances.reachability import Reachability
from dit4c_p2p.portal.instances.saves import Saves
from dit4c_p2p.portal.instances.scheduler_link import SchedulerLinks
from dit4c_p2p.portal.instances.shares import Shares
from dit4c_p2p.portal.keys.enrolment import Enrolment
from dit4c_p2p.portal.keys.events import KeyEvents
from dit4c_p2p.portal.keys.known_addresses import KnownAddresses
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.keys.user_keys import UserKeys
from dit4c_p2p.portal.live_updates import LiveUpdates
from dit4c_p2p.portal.login.device import DeviceCodes
from dit4c_p2p.portal.login.identities import Identities
from dit4c_p2p.portal.login.passkeys import Passkeys
from dit4c_p2p.portal.login.provider_logins import ProviderLogins
from dit4c_p2p.portal.oauth.server import OAuthServer
from dit4c_p2p.portal.storage.events import GrantEvents
from dit4c_p2p.portal.storage.file_servers import FileServers
from dit4c_p2p.portal.storage.grants import StorageGrants
from dit4c_p2p.portal.storage.homes import Defaults
from dit4c_p2p.portal.storage.usage import UsageCache


@dataclass(frozen=True)
class PortalContext:
    """The portal's parts, created once at its start."""

    config: PortalConfig
    public: PublicConfig
    clock: Callable[[], float]
    audit: Audit
    hub: LiveUpdates
    registry: KeyRegistry
    key_events: KeyEvents
    access_ends: AccessEnds
    enrolment: Enrolment
    sessions: LoginSessions
    last_used: LastUsed
    instances: Instances
    links: SchedulerLinks
    reach: Reachability
    memory: MemoryTable
    oauth: OAuthServer
    known: KnownAddresses
    user_keys: UserKeys
    storage_defaults: Defaults
    grants: StorageGrants
    grant_events: GrantEvents
    file_servers: FileServers
    usage: UsageCache
    passkeys: Passkeys
    image_access: SavedImageAccess
    provider_logins: ProviderLogins
    identities: Identities
    device_codes: DeviceCodes
    static: StaticFiles
    saves: Saves
    checkpoints: Checkpoints
    moves: Moves
    shares: Shares
    image_store: ImageStore


SERVICES = web.AppKey("services", PortalContext)


def services(request: web.Request) -> PortalContext:
    """Return the portal's parts of a request."""
    return request.app[SERVICES]
