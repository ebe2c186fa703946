"""The portal: its parts, start and stop."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

import aiohttp_jinja2
import asyncssh
import jinja2
from aiohttp import web
from tortoise.exceptions import OperationalError

from dit4c_p2p import __version__, resources
from dit4c_p2p.audit import AuditBroken
from dit4c_p2p.database import FAILURES, in_transaction
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import fingerprint, load_or_create, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.observe.metrics import set_all_gauge_values
from dit4c_p2p.observe.server import Check
from dit4c_p2p.portal.accounts import api_tokens, invitations, people
from dit4c_p2p.portal.accounts.ended_access import AccessEnds
from dit4c_p2p.portal.accounts.last_used import LastUsed
from dit4c_p2p.portal.accounts.sessions import LoginSessions
from dit4c_p2p.portal.api import routes as api
from dit4c_p2p.portal.audit import Audit, local_audit_user
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.context import SERVICES, PortalContext
from dit4c_p2p.portal.errors import Unavailable
from dit4c_p2p.portal.http import responses
from dit4c_p2p.portal.http.client_address import resolve_client_address
from dit4c_p2p.portal.http.request_body import MAX_BODY_BYTES
from dit4c_p2p.portal.http.server import http_server
from dit4c_p2p.portal.http.static_files import StaticFiles
from dit4c_p2p.portal.instances import images, saves
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
from dit4c_p2p.portal.keys.known_hosts import ssh_addresses
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.keys.user_keys import UserKeys
from dit4c_p2p.portal.live_updates import LiveUpdates
from dit4c_p2p.portal.login.attempts import LoginAttempts
from dit4c_p2p.portal.login.device import DeviceCodes
from dit4c_p2p.portal.login.identities import Identities
from dit4c_p2p.portal.login.passkeys import Passkeys
from dit4c_p2p.portal.login.provider_logins import ProviderLogins
from dit4c_p2p.portal.metrics import PortalMetrics
from dit4c_p2p.portal.models import Counter, EnrolNonce, Incoming, LoginLink, Outgoing
from dit4c_p2p.portal.oauth.server import OAuthServer
from dit4c_p2p.portal.pages import account, dashboard, earlier_files, login
from dit4c_p2p.portal.pages import audit as audit_pages
from dit4c_p2p.portal.pages import checkpoints as checkpoint_pages
from dit4c_p2p.portal.pages import consents as consent_pages
from dit4c_p2p.portal.pages import device as device_pages
from dit4c_p2p.portal.pages import files as file_pages
from dit4c_p2p.portal.pages import groups as group_pages
from dit4c_p2p.portal.pages import invitations as invitation_pages
from dit4c_p2p.portal.pages import kept as kept_pages
from dit4c_p2p.portal.pages import keys as key_pages
from dit4c_p2p.portal.pages import machines as machine_pages
from dit4c_p2p.portal.pages import passkeys as passkey_pages
from dit4c_p2p.portal.pages import people as people_pages
from dit4c_p2p.portal.pages import providers as provider_pages
from dit4c_p2p.portal.pages import saved as saved_pages
from dit4c_p2p.portal.pages import storage as storage_pages
from dit4c_p2p.portal.pages import tools as tool_pages
from dit4c_p2p.portal.pages.institution import institution_files
from dit4c_p2p.portal.pages.tool_pictures import tool_picture_files, tool_picture_url
from dit4c_p2p.portal.peers import fileserver as peer_fileserver
from dit4c_p2p.portal.peers import images as peer_images
from dit4c_p2p.portal.peers import imageserver as peer_imageserver
from dit4c_p2p.portal.peers import instances as peer_instances
from dit4c_p2p.portal.peers import oauth as oauth_handlers
from dit4c_p2p.portal.peers import registry as peer_registry
from dit4c_p2p.portal.services import accounts
from dit4c_p2p.portal.services.deletion import finish_account_deletions
from dit4c_p2p.portal.services.user_keys import end_pending_ssh_keys
from dit4c_p2p.portal.storage.events import GrantEvents
from dit4c_p2p.portal.storage.file_servers import FileServers
from dit4c_p2p.portal.storage.files import moment_text, size_text
from dit4c_p2p.portal.storage.grants import StorageGrants
from dit4c_p2p.portal.storage.homes import Defaults
from dit4c_p2p.portal.storage.usage import UsageCache

_log = logging.getLogger(__name__)

_HOUSEKEEPING_S = 30
# A scheduler that says something again after a month finds that reports count by their sequence.
_INCOMING_KEPT_S = 30 * 24 * 3600


class Portal:
    """A portal; its database (``DatabaseSpec("portal", config.database_path)``) must be open.

    ``start()``, then ``wait()`` for as long as it is to run, and ``stop()`` in the end. ``info`` is
    what peers are given to know it by; ``port`` is where it listens first.
    """

    def __init__(self, config: PortalConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        self.metrics = PortalMetrics()
        self._key = load_or_create(config.key_path)
        self.info = PortalInfo(
            name=str(config.name),
            url=config.url,
            key=public_line(self._key, str(config.name)),
            connect=list(config.connect),
        )
        self._services = self._make_services()
        self._server = http_server(self._make_app(), config)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port of the first address, once started."""
        return [*self._server.ports, *self._server.secure_ports][0]

    @property
    def ports(self) -> list[int]:
        """The port of each plain address."""
        return list(self._server.ports)

    @property
    def secure_ports(self) -> list[int]:
        """The port of each address with TLS."""
        return list(self._server.secure_ports)

    @property
    def redirect_ports(self) -> list[int]:
        """The port of each address that leads to HTTPS."""
        return list(self._server.redirect_ports)

    async def start(self) -> None:
        """Publish the portal's own key and listen.

        :raises ConfigError: an address can't be listened on, or the audit log not be written.
        :raises AuditBroken: what is in the audit log's place is something else.
        """
        # Authlib's debug lines hold tokens.
        logging.getLogger("authlib").setLevel(logging.INFO)
        parts = self._services
        self._open_audit()
        await parts.audit.record_best_effort(
            "portal.start", who=str(self.config.name), about=__version__
        )
        await parts.registry.start()
        await parts.reach.start()
        async with in_transaction("portal"):
            changes = await parts.registry.publish(
                self.config.name, self._key.convert_to_public(), by=str(self.config.name)
            )
        parts.registry.announce(changes)
        parts.registry.seen(fingerprint(self._key))
        await self._server.start()
        self._tasks = [
            asyncio.create_task(parts.key_events.run(), name="portal heartbeat"),
            asyncio.create_task(parts.registry.run(), name="portal key changes"),
            asyncio.create_task(parts.access_ends.run(), name="portal ended access"),
            asyncio.create_task(parts.grant_events.run(), name="portal grant events"),
            asyncio.create_task(self._keep_house(), name="portal housekeeping"),
            asyncio.create_task(self._server.follow(), name="portal certificate"),
        ]
        ports = [*self.ports, *self.secure_ports, *self._server.redirect_ports]
        _log.info("portal %s listens on %s", self.config.url, ports)

    async def wait(self) -> None:
        """Until :meth:`stop`; raises if a part of the portal has failed."""
        ended, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """End every connection and task; within five seconds."""
        parts = self._services
        parts.hub.close()
        parts.key_events.close()
        parts.grant_events.close()
        await parts.file_servers.close()
        parts.links.close()
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await parts.reach.stop()
        await parts.registry.write_seen()
        await parts.audit.record_best_effort("portal.stop", who=str(self.config.name))
        parts.audit.close()
        _log.info("portal %s has stopped", self.config.url)

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """Health checks by name."""
        return {"database": self._check_database, "audit log": self._check_audit}

    async def measure(self) -> None:
        """Count what is in the database now.

        :raises Unavailable: it does not work; the rest is up to date.
        """
        metrics, parts = self.metrics, self._services
        metrics.links.set(parts.links.count)
        metrics.connections.set(self._server.connections)
        metrics.lost_lines.set(parts.audit.lost_ever)
        try:
            newest = await parts.audit.newest()
            metrics.audit_lines.set(newest.count)
            metrics.audit_newest.info({"hash": newest.newest})
        except (OSError, AuditBroken) as error:
            _log.warning("the audit log's newest line can't be read: %s", error)
        metrics.audit_shortened.set(parts.audit.shortened)
        try:
            set_all_gauge_values(metrics.instances, await parts.instances.counts())
            metrics.outbox.set(await Outgoing.all().count())
        except (OSError, *FAILURES) as error:
            raise Unavailable(f"the database does not work: {error}") from None

    async def _check_database(self) -> str:
        try:
            await Counter.exists(name="change")
        except (OSError, *FAILURES) as error:
            return f"it does not work: {error}"
        return ""

    async def _check_audit(self) -> str:
        lost = self._services.audit.lost
        return f"it can't be written: {lost} lines are missing" if lost else ""

    # ---- for the program that runs it

    async def ensure_admin(self, person: str) -> None:
        """See that there is an admin's account with this id."""
        await people.ensure_person(person, name="Admin", is_admin=True, now=self._clock())

    async def create_login_link(self, person: str) -> str:
        """The token of a new one-time link, ``<portal>/login/<token>``.

        :raises NotFound: no such person.
        """
        return await accounts.create_login_link(
            self._services.audit,
            person,
            lifetime_s=self.config.limits.login_link_s,
            now=self._clock(),
            who=local_audit_user(),
        )

    async def create_api_token(self, person: str, label: str) -> str:
        """A token for the HTTP API, with all that the person may and without an end; it replaces
        their earlier one with this label.

        :raises NotFound: no such person.
        """
        owner = await people.get_person(person)
        _, text = await accounts.create_api_token(
            self._services.audit,
            person,
            label=label,
            scopes=api_tokens.ALL_SCOPES if owner.is_admin else api_tokens.USER_SCOPES,
            days=None,
            now=self._clock(),
            replace=True,
            who=local_audit_user(),
        )
        return text

    async def enrol_own(
        self, person: str, name: PeerName, key: asyncssh.SSHKey, *, scheduler: str | None = None
    ) -> str:
        """Bring the key of a peer in this process into force; fine if it is.

        :param person: whose doing it is.
        :param key: the private key, to prove possession with.
        :param scheduler: for a node, the id of its scheduler.
        :raises Conflict: the key was revoked or belongs to another peer.
        """
        return await self._services.enrolment.enrol_own(person, name, key, scheduler=scheduler)

    # ---- inside

    def _open_audit(self) -> None:
        try:
            self._services.audit.open()
        except OSError as error:
            raise ConfigError(
                f"the audit log {self.config.audit_path} can't be written: {error.strerror}",
                hint="it has to be the portal's own file",
            ) from None

    def _make_services(self) -> PortalContext:
        config, clock = self.config, self._clock
        limits = config.limits
        hub = LiveUpdates(limits.event_streams, limits.event_streams_per_person)
        audit = Audit(config.audit_path, clock=clock, told=self.metrics.told)
        addresses = ssh_addresses(config.routers, config.fileservers)
        registry = KeyRegistry(self._key, addresses, audit, clock=clock)
        known, last_used = KnownAddresses(), LastUsed(clock)
        attempts = LoginAttempts(self._key, clock)
        reach = Reachability(hub, clock=clock)
        registry.watch(reach.key_changed)
        memory = MemoryTable(hub)
        links = SchedulerLinks(
            self._key, config.url, registry, known, audit, reach, memory, clock=clock
        )
        key_events = KeyEvents(self._key, registry, known, clock=clock)
        access_ends = AccessEnds(key_events.access_ended, clock=clock)
        hub.watch_sessions(access_ends.look)
        defaults = Defaults(config.fileservers, limits.person_quota_bytes, limits.group_quota_bytes)
        grant_events = GrantEvents()
        file_servers = FileServers(config.name, self._key, config.fileservers, registry)
        instances = Instances(
            config, registry, hub, links.kick, audit, grant_events.changed, reach, clock=clock
        )
        saved = Saves(self._key, config, registry, instances, audit, clock=clock)
        return PortalContext(
            config=config,
            public=PublicConfig(
                portal=self.info,
                routers=list(config.routers),
                user_url=config.user_url,
                fileservers=list(config.fileservers),
                imageservers=[server.info for server in config.imageservers],
            ),
            clock=clock,
            audit=audit,
            hub=hub,
            registry=registry,
            key_events=key_events,
            access_ends=access_ends,
            enrolment=Enrolment(registry, config.url, limits.enrol_nonce_s, audit, clock=clock),
            sessions=LoginSessions(
                hub,
                audit,
                last_used,
                idle_s=limits.session_idle_s,
                lifetime_s=limits.session_s,
                clock=clock,
            ),
            last_used=last_used,
            instances=instances,
            links=links,
            reach=reach,
            memory=memory,
            oauth=OAuthServer(config, registry, audit, clock=clock),
            known=known,
            user_keys=UserKeys(registry, audit, clock=clock),
            storage_defaults=defaults,
            grants=StorageGrants(defaults, limits.instance_files_s, clock=clock),
            grant_events=grant_events,
            file_servers=file_servers,
            usage=UsageCache(file_servers),
            passkeys=Passkeys(config.url, attempts, audit, clock=clock),
            image_access=SavedImageAccess(clock),
            provider_logins=ProviderLogins(config.login, config.url, attempts, clock=clock),
            device_codes=DeviceCodes(audit, clock=clock),
            identities=Identities(audit, clock=clock),
            static=StaticFiles(
                institution_files(config.login) | tool_picture_files(config.tool_pictures)
            ),
            saves=saved,
            checkpoints=Checkpoints(config, instances, reach, audit, saved.check_room, clock=clock),
            moves=Moves(registry, instances, reach, audit, clock=clock),
            shares=Shares(instances, audit, clock=clock),
            image_store=ImageStore(self._key, config, clock=clock),
        )

    def _make_app(self) -> web.Application:
        app = web.Application(
            middlewares=[
                self.metrics.counting(),
                resolve_client_address,
                responses.translate_errors,
                responses.check_request_target,
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        app[SERVICES] = self._services
        static = self._services.static
        environment = aiohttp_jinja2.setup(
            app,
            loader=jinja2.FileSystemLoader(resources.folder("templates")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["static"] = static.url
        environment.globals["tool_picture"] = partial(tool_picture_url, static)
        environment.filters["sentence"] = responses.sentence
        environment.filters["day"] = _day_for_page
        environment.filters["until"] = _account_end_for_page
        environment.filters["size"] = size_text
        environment.filters["moment"] = moment_text
        app.on_response_prepare.append(responses.add_response_headers)
        for routes in (
            peer_registry.key_registry_routes(),
            peer_instances.instance_peer_routes(),
            peer_fileserver.file_server_routes(),
            peer_imageserver.image_server_routes(),
            peer_images.saved_image_routes(),
            saved_pages.saved_page_routes(),
            checkpoint_pages.checkpoints_page_routes(),
            kept_pages.kept_page_routes(),
            oauth_handlers.oauth_routes(),
            api.routes(self.config.url),
            login.login_page_routes(),
            dashboard.dashboard_page_routes(),
            key_pages.keys_page_routes(),
            audit_pages.audit_page_routes(),
            machine_pages.machines_page_routes(),
            people_pages.people_page_routes(),
            tool_pages.tools_page_routes(),
            group_pages.groups_page_routes(),
            file_pages.files_page_routes(),
            earlier_files.earlier_files_page_routes(),
            consent_pages.consents_page_routes(),
            storage_pages.storage_page_routes(),
            account.account_page_routes(),
            passkey_pages.passkeys_page_routes(),
            provider_pages.providers_page_routes(),
            invitation_pages.invitations_page_routes(),
            device_pages.device_page_routes(),
            static.routes(),
        ):
            app.add_routes(routes)
        return app

    async def _keep_house(self) -> None:
        """Write down who was seen, and forget what has no more effect."""
        parts = self._services
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            now = self._clock()
            try:
                await parts.registry.write_seen()
                await parts.audit.finish()
                await parts.sessions.remove_expired()
                await parts.oauth.remove_expired()
                await api_tokens.remove_expired_tokens(now)
                await invitations.remove_expired_invitations(now)
                await parts.device_codes.remove_expired()
                await end_pending_ssh_keys(parts)
                await finish_account_deletions(parts)
                await images.remove_expired_image_secrets(now)
                await saves.purge_discarded_saves(parts.image_store, now)
                await parts.checkpoints.begin_due()
                await EnrolNonce.filter(expires_at__lt=now).delete()
                await LoginLink.filter(expires_at__lt=now).delete()
                await Incoming.filter(at__lt=now - _INCOMING_KEPT_S).delete()
            except (OSError, OperationalError):
                _log.exception("housekeeping failed; trying again in %s s", _HOUSEKEEPING_S)


def _day_for_page(text: str | None) -> str:
    """``2026-09-21T10:00:00Z`` as ``21 Sep 2026, 10:00``, for a page."""
    if not text:
        return "never"
    return f"{datetime.fromisoformat(text):%-d %b %Y, %H:%M}"


def _account_end_for_page(text: str) -> str:
    """The end of an account, for a page: its last day, where it ends with one."""
    end = datetime.fromisoformat(text)
    if end.time() != datetime.min.time():
        return f"{end:%-d %b %Y, %H:%M}"
    return f"{end - timedelta(days=1):%-d %b %Y}"
