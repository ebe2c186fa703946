"""``dit4c up``: every component on one machine, over real SSH and real HTTP.

The file server has a process of its own, so that what it does for files holds nobody else up; all
others are in this one.

Nothing here does a component's work: it makes keys, enrols them at the portal, tells each component
where the others are, starts them in order, and stops them in the reverse of it.
"""

import asyncio
import json
import shutil
import socket
import time
from contextlib import AsyncExitStack, closing
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

import aiodocker
import aiohttp

from dit4c_p2p.atomic_file import write_whole
from dit4c_p2p.database import databases, serving
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import load_or_create, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.imagebuild import (
    DockerDaemon,
    Images,
    TerminalProgress,
    default_cache_folder,
    ensure_engine,
    ensure_images,
)
from dit4c_p2p.imageserver.app import ImageServer
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.messages.public import FileServerInfo, ImageServerInfo, PortalInfo, RouterInfo
from dit4c_p2p.node.agent import Node
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.observe.server import Observed, serve_health
from dit4c_p2p.portal import CatalogueImage, Portal, PortalConfig
from dit4c_p2p.portal.config import KnownImageServer
from dit4c_p2p.portal.errors import Conflict
from dit4c_p2p.router import Router, RouterConfig
from dit4c_p2p.run.all_in_one_config import AllInOneConfig
from dit4c_p2p.run.child_component import ChildComponent, Value
from dit4c_p2p.run.process import Component, check_port_is_free, run_until_signal, running_component
from dit4c_p2p.scheduler import Scheduler, SchedulerConfig, scheduler_database

PORTAL = PeerName.parse("portal-main")
ROUTER = PeerName.parse("router-main")
SCHEDULER = PeerName.parse("scheduler-main")
NODE = PeerName.parse("node-main")
FILESERVER = PeerName.parse("fileserver-main")
IMAGE_SERVER = PeerName.parse("imageserver-main")
ADMIN = "admin"
# In the order in which they are started.
_KINDS = ("portal", "fileserver", "router", "imageserver", "node", "scheduler")

_READY_S = 60.0
_LOOPBACK = "127.0.0.1"
# Stays in the data folder, unlike the ready file, and holds no secret.
_ABOUT = "about.json"


async def run_all_in_one(config: AllInOneConfig) -> None:
    """Run until SIGINT or SIGTERM.

    :raises ConfigError: this machine or the settings are not as they must be.
    """
    await run_until_signal(_run_all_in_one(config), "Stopping. Instances live on.")


async def _run_all_in_one(config: AllInOneConfig) -> None:
    progress = TerminalProgress(columns=shutil.get_terminal_size().columns)
    config.ready_path.unlink(missing_ok=True)
    try:
        engine = await ensure_engine(progress)
        bridge = await _bridge_address(engine)
        _check_ports_of_system(config, *_listen_hosts(bridge))
        images = await ensure_images(
            progress, default_cache_folder(), engine=engine, tools=config.tools
        )
        progress("DIT4C", "starting portal, servers, node agent and scheduler")
        async with AsyncExitStack() as stack:
            system = _AllInOneSystem(config, images, engine, bridge)
            components = await system.start(stack)
            show = await stack.enter_async_context(serve_health(config.observe_address, *_KINDS))
            for kind, component in zip(_KINDS, components, strict=True):
                show(kind, component)
            async with asyncio.timeout(_READY_S):
                await system.ready()
            access = await system.access()
            _write_system_file(config.data_folder / _ABOUT, {"portal": config.portal_url})
            _write_system_file(config.ready_path, access)
            stack.callback(config.ready_path.unlink, missing_ok=True)
            progress("DIT4C", f"ready at {config.portal_url}")
            progress.close()
            print(f"\nLog in here (once, within 24 hours): {access['login_url']}", flush=True)
            async with asyncio.TaskGroup() as group:
                for component in components:
                    group.create_task(component.wait())
    except TimeoutError:
        raise ConfigError(
            f"not everything answered within {_READY_S:.0f} s",
            hint=f"see {config.data_folder / 'dit4c.log'}",
        ) from None
    finally:
        progress.close()


class _RunningComponent(Component, Observed, Protocol):
    """One that runs and can be looked at."""


class _AllInOneSystem:
    """The components and what each is told of the others."""

    def __init__(
        self, config: AllInOneConfig, images: Images, engine: DockerDaemon, bridge: str
    ) -> None:
        self._config = config
        self._keys = {
            name: load_or_create(_peer_key_file(config, name))
            for name in (PORTAL, ROUTER, SCHEDULER, NODE, FILESERVER, IMAGE_SERVER)
        }
        self.portal = Portal(
            PortalConfig(
                data_folder=config.data_folder / "portal",
                url=config.portal_url,
                addresses=_listen_addresses(config.portal_port, bridge),
                connect=(f"{bridge}:{config.portal_port}",),
                user_url=config.user_url,
                routers=(self._router_at("localhost", _LOOPBACK, bridge),),
                fileservers=(self._file_server_at(_LOOPBACK, bridge),),
                catalogue=tuple(
                    CatalogueImage(
                        offer.name, offer.title, offer.description, offer.image, offer.icon
                    )
                    for offer in images.catalogue
                ),
                scheduler=SCHEDULER.id,
                imageservers=(
                    KnownImageServer(
                        self._images_at(bridge),
                    ),
                ),
            )
        )
        self.imageserver = ImageServer(
            ImageServerConfig(
                name=IMAGE_SERVER,
                key=self._keys[IMAGE_SERVER],
                url=config.images_url,
                portal=self._portal_at(_LOOPBACK),
                data_folder=config.data_folder / IMAGE_SERVER.kind,
                addresses=_listen_addresses(config.images_port, bridge),
            )
        )
        self.file_server = ChildComponent(
            FILESERVER.kind,
            _peer_key_file(config, FILESERVER).parent,
            self._file_server_settings(bridge),
            config.files_port,
            observed=config.observe_port is not None,
        )
        self.router = Router(
            RouterConfig(
                name=ROUTER,
                key=self._keys[ROUTER],
                http=_listen_addresses(config.router_port, bridge),
                ssh=_listen_addresses(config.router_ssh_port, bridge),
                portal=self._portal_at(_LOOPBACK),
                user_url=config.user_url,
                data_folder=config.data_folder / "router",
            )
        )
        self.node = Node(
            NodeConfig(
                name=NODE,
                key=self._keys[NODE],
                data_folder=config.data_folder,
                scheduler=SCHEDULER,
                images=HelperImages(
                    images.infra, images.listener, images.auth, images.upload, images.storage
                ),
                portal=self._portal_at(_LOOPBACK),
                routers=(self._router_at(_LOOPBACK),),
                user_url=config.user_url,
                pod_portal=self._portal_at(bridge),
                pod_routers=(self._router_at(bridge),),
                # Whoever runs this owns the machine, and says what is in the catalogue.
                policy=Policy(local_registries=None),
                image_server=self._images_at(_LOOPBACK),
                pod_image_server=self._images_at(bridge),
                fileservers=(self._file_server_at(bridge),),
                engine_url=engine.address,
            )
        )
        self.scheduler = Scheduler(
            SchedulerConfig(
                name=SCHEDULER,
                key=self._keys[SCHEDULER],
                data_folder=config.data_folder / "scheduler",
                portal=self._portal_at(_LOOPBACK),
                routers=(self._router_at(_LOOPBACK),),
                nodes=(NODE.id,),
            )
        )

    async def start(self, stack: AsyncExitStack) -> list[_RunningComponent]:
        """Start all, each after what it needs; the stack stops them in the reverse order."""
        await stack.enter_async_context(
            serving(
                [
                    self.portal.config.database_spec,
                    scheduler_database(self.scheduler.config.data_folder),
                ]
            )
        )
        await stack.enter_async_context(running_component(self.portal))
        await self.portal.ensure_admin(ADMIN)
        for name in (ROUTER, SCHEDULER, NODE, FILESERVER, IMAGE_SERVER):
            scheduler = SCHEDULER.id if name == NODE else None
            try:
                await self.portal.enrol_own(ADMIN, name, self._keys[name], scheduler=scheduler)
            except Conflict as error:
                raise ConfigError(
                    f"the key of {name} can't be published: {error}",
                    hint=f"remove {_peer_key_file(self._config, name)} and a new one is made",
                ) from None
        components: list[_RunningComponent] = [self.portal]
        others = (self.file_server, self.router, self.imageserver, self.node, self.scheduler)
        for component in others:
            await stack.enter_async_context(running_component(component))
            components.append(component)
        return components

    async def ready(self) -> None:
        """Wait until the scheduler reaches the portal and the node."""
        await self.scheduler.ready()

    async def access(self) -> dict[str, str]:
        """What the ready file says."""
        config = self._config
        token = await self.portal.create_login_link(ADMIN)
        return {
            "portal": config.portal_url,
            "router": f"http://localhost:{config.router_port}",
            "router_ssh": f"{_LOOPBACK}:{config.router_ssh_port}",
            "images": config.images_url,
            "files": f"sftp://localhost:{config.files_port}",
            "login_url": f"{config.portal_url}/login/{token}",
            "api_token": await self.portal.create_api_token(ADMIN, "dit4c up"),
        }

    def _portal_at(self, host: str) -> PortalInfo:
        return PortalInfo(
            name=str(PORTAL),
            url=self._config.portal_url,
            key=public_line(self._keys[PORTAL], str(PORTAL)),
            connect=[f"{host}:{self._config.portal_port}"],
        )

    def _file_server_at(self, *hosts: str) -> FileServerInfo:
        port = self._config.files_port
        return FileServerInfo(
            name=str(FILESERVER),
            url=f"sftp://localhost:{port}",
            connect=[f"{host}:{port}" for host in hosts],
        )

    def _file_server_settings(self, bridge: str) -> dict[str, dict[str, Value]]:
        """What the file server's file says."""
        config, portal = self._config, self._portal_at(_LOOPBACK)
        addresses = [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in _listen_addresses(config.files_port, bridge)
        ]
        top: dict[str, Value] = {
            "id": FILESERVER.id,
            "data_folder": str(_peer_key_file(config, FILESERVER).parent),
            "listen_ssh": addresses,
        }
        reference: dict[str, Value] = {
            "url": portal.url,
            "key": portal.key,
            "connect": portal.connect,
        }
        return {"": top, "portal": reference}

    def _images_at(self, host: str) -> ImageServerInfo:
        return ImageServerInfo(
            name=str(IMAGE_SERVER),
            url=self._config.images_url,
            connect=[f"{host}:{self._config.images_port}"],
        )

    def _router_at(self, *hosts: str) -> RouterInfo:
        return RouterInfo(
            name=str(ROUTER),
            ssh=[f"{host}:{self._config.router_ssh_port}" for host in hosts],
            http=[f"{host}:{self._config.router_port}" for host in hosts],
        )


def _peer_key_file(config: AllInOneConfig, name: PeerName) -> Path:
    return config.data_folder / name.kind / "key"


async def new_login_link_of_folder(folder: Path, person: str) -> str:
    """A new one-time link for a person of the installation in ``folder``, running or not.

    :raises ConfigError: there is no installation.
    :raises DitError: no such person.
    """
    from dit4c_p2p.admin.tokens import audit_log_of_folder, portal_database_of_folder
    from dit4c_p2p.portal.audit import Audit, local_audit_user
    from dit4c_p2p.portal.config import Limits
    from dit4c_p2p.portal.services.accounts import create_login_link

    try:
        portal_url = json.loads((folder / _ABOUT).read_bytes())["portal"]
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            f"there is no installation in {folder}",
            hint="start 'dit4c up' once, or say where with --data-dir",
        ) from None
    with closing(Audit(audit_log_of_folder(folder))) as audit:
        async with databases([portal_database_of_folder(folder)]):
            token = await create_login_link(
                audit,
                person,
                lifetime_s=Limits.login_link_s,
                now=time.time(),
                who=local_audit_user(),
            )
    return f"{portal_url}/login/{token}"


async def _bridge_address(engine: DockerDaemon) -> str:
    """The machine's address on the engine's bridge, where pods reach portal and router.

    :raises ConfigError: the engine has no bridge.
    """
    try:
        async with engine.client(call_s=20.0) as docker:
            bridge = await (await docker.networks.get("bridge")).show()
        addresses = bridge["IPAM"]["Config"][0]
        # Left out when the engine chose it by itself: the first address of the bridge's network.
        return addresses.get("Gateway") or str(next(IPv4Network(addresses["Subnet"]).hosts()))
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConfigError(
            f"the Docker engine does not answer: {error}", hint="see that it runs"
        ) from None
    except (KeyError, IndexError):
        raise ConfigError(
            "the Docker engine has no default bridge network",
            hint='remove \'"bridge": "none"\' from its daemon.json',
        ) from None


def _listen_addresses(port: int, bridge: str) -> tuple[tuple[str, int], ...]:
    return tuple((host, port) for host in _listen_hosts(bridge))


def _listen_hosts(bridge: str) -> tuple[str, ...]:
    """Loopback and the bridge, never all addresses."""
    return (_LOOPBACK, *(["::1"] if _has_ipv6_loopback() else []), bridge)


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _check_ports_of_system(config: AllInOneConfig, *hosts: str) -> None:
    """Say that a port is taken before minutes go into images; binding is what counts.

    :param hosts: where portal and router are to listen.
    """
    for option, port in config.ports.items():
        for host in hosts if port != config.observe_port else (_LOOPBACK,):
            check_port_is_free(host, port, another=f"choose another with {option}")


def _write_system_file(path: Path, content: dict[str, str]) -> None:
    write_whole(path, json.dumps(content, indent=2).encode() + b"\n")
