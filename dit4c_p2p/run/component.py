"""The components, each run from its settings until SIGINT or SIGTERM."""

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import asyncssh

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import fingerprint, load_or_create
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.node.config import HelperImages
from dit4c_p2p.observe.logs import log_to
from dit4c_p2p.observe.server import Observed, serve_health
from dit4c_p2p.run.bootstrap import learn_portal
from dit4c_p2p.run.process import (
    Component,
    check_port_is_free,
    locked_data_folder,
    run_until_signal,
    running_component,
)
from dit4c_p2p.settings import (
    FileServerSettings,
    ImageServerSettings,
    NodeSettings,
    PeerSettings,
    PortalSettings,
    RouterSettings,
    SchedulerSettings,
    Settings,
)

_log = logging.getLogger(__name__)

_ENGINE_FIRST_PAUSE_S, _ENGINE_LONGEST_PAUSE_S = 0.5, 5.0
_SAY_AGAIN_S = 60.0

_ANOTHER_FOLDER = "choose another data_folder in the file"
_ANOTHER_ADDRESS = "give another address in the file"

Show = Callable[[Observed], None]
Work = Callable[[Show], Awaitable[None]]


class ObservedComponent(Component, Observed, Protocol):
    """One that runs and can be looked at."""


async def run_component(settings: Settings) -> None:
    """Run the component that the settings are for.

    :raises DitError: it can't be started, or can't go on.
    """
    match settings:
        case PortalSettings():
            await _run_component(settings, lambda show: _run_portal(settings, show))
        case SchedulerSettings():
            await _run_component(settings, lambda show: _run_scheduler(settings, show))
        case RouterSettings():
            await _run_component(settings, lambda show: _run_router(settings, show))
        case NodeSettings():
            await _run_component(settings, lambda show: _run_node(settings, show))
        case FileServerSettings():
            await _run_component(settings, lambda show: _run_file_server(settings, show))
        case ImageServerSettings():
            await _run_component(settings, lambda show: _run_image_server(settings, show))
        case _:
            raise TypeError(f"{type(settings).__name__} is for no component")


async def _run_component(settings: PortalSettings | PeerSettings, work: Work) -> None:
    log_to(None, terminal=settings.log.number, form=settings.log.format)
    program = f"dit4c {settings.KIND} run"
    with locked_data_folder(settings.data_folder, program=program, another=_ANOTHER_FOLDER):
        for setting, addresses in settings.listening.items():
            for host, port in addresses:
                check_port_is_free(host, port, another=_ANOTHER_ADDRESS, setting=setting)
        for problem in settings.file_problems():
            raise problem

        async def working() -> None:
            async with serve_health(settings.observe.listen, settings.KIND) as show:
                await work(lambda component: show(settings.KIND, component))

        await run_until_signal(working(), "Stopping. Instances live on.")


async def _run_portal(settings: PortalSettings, show: Show) -> None:
    from dit4c_p2p.database import serving
    from dit4c_p2p.portal import Portal

    key = load_or_create(settings.key_path)
    _log.info("%s has the key %s", settings.name, fingerprint(key))
    config = settings.config()
    async with serving([config.database_spec]):
        await _serve_component(settings.name, Portal(config), show)


async def _run_router(settings: RouterSettings, show: Show) -> None:
    from dit4c_p2p.router import Router

    key, portal, public = await _begin_peer(settings)
    await _serve_component(settings.name, Router(settings.config(key, portal, public)), show)


async def _run_scheduler(settings: SchedulerSettings, show: Show) -> None:
    from dit4c_p2p.database import serving
    from dit4c_p2p.scheduler import Scheduler, scheduler_database

    async with serving([scheduler_database(settings.data_folder, settings.database)]):
        key, portal, public = await _begin_peer(settings)
        await _serve_component(settings.name, Scheduler(settings.config(key, portal, public)), show)


async def _run_node(settings: NodeSettings, show: Show) -> None:
    from dit4c_p2p.node.agent import Node

    key, portal, public = await _begin_peer(settings)
    await wait_for_engine(settings.engine)
    images = await helper_images_of_settings(settings)
    await _serve_component(settings.name, Node(settings.config(key, portal, public, images)), show)


async def _run_file_server(settings: FileServerSettings, show: Show) -> None:
    from dit4c_p2p.fileserver import FileServer

    key, portal, _ = await _begin_peer(settings)
    await _serve_component(settings.name, FileServer(settings.config(key, portal)), show)


async def _run_image_server(settings: ImageServerSettings, show: Show) -> None:
    from dit4c_p2p.imageserver.app import ImageServer

    key, portal, _ = await _begin_peer(settings)
    await _serve_component(settings.name, ImageServer(settings.config(key, portal)), show)


async def _begin_peer(settings: PeerSettings) -> tuple[asyncssh.SSHKey, PortalInfo, PublicConfig]:
    """The peer's key, the portal as the peer reaches it, and what the portal makes known."""
    key = load_or_create(settings.key_path)
    _log.info("%s has the key %s", settings.name, fingerprint(key))
    portal, public = await learn_portal(settings.portal, settings.data_folder)
    return key, portal, public


async def _serve_component(name: object, component: ObservedComponent, show: Show) -> None:
    async with running_component(component):
        show(component)
        _log.info("%s is up", name)
        await component.wait()


async def wait_for_engine(address: str) -> None:
    """Return once the engine at ``address`` answers; after a boot it may come up later than this.

    :raises ConfigError: this user may not use it, which waiting does not change.
    """
    from dit4c_p2p.node.engine.client import Engine
    from dit4c_p2p.node.errors import EngineError

    loop = asyncio.get_running_loop()
    backoff = Backoff(_ENGINE_FIRST_PAUSE_S, _ENGINE_LONGEST_PAUSE_S)
    said = float("-inf")
    async with Engine(address) as engine:
        while True:
            try:
                await engine.info()
            except EngineError as error:
                _check_observe_access(address)
                if loop.time() - said > _SAY_AGAIN_S:
                    said = loop.time()
                    _log.warning("waiting for the engine at %s: %s", address, error)
            else:
                return
            await asyncio.sleep(backoff.pause_s())


def _check_observe_access(address: str) -> None:
    path = Path(address.removeprefix("unix://"))
    is_socket = address.startswith("unix://") and path.exists()
    if is_socket and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(
            f"engine: this user may not use {address}",
            hint="add the user to the group that owns the socket ('docker' as a rule)",
        )


async def helper_images_of_settings(settings: NodeSettings) -> HelperImages:
    """The ids of the images of a pod's helpers: those named, or else the ones built here.

    :raises ConfigError: the engine has no such image, or does not answer.
    :raises DitError: they can't be built.
    """
    from dit4c_p2p.imagebuild import (
        TerminalProgress,
        default_cache_folder,
        ensure_engine,
        ensure_images,
    )
    from dit4c_p2p.node.engine.client import Engine
    from dit4c_p2p.node.errors import EngineError, NotFound

    given = settings.images.given
    if not given:
        progress = TerminalProgress(columns=shutil.get_terminal_size().columns)
        try:
            found = await ensure_engine(progress, settings.engine)
            built = await ensure_images(progress, default_cache_folder(), engine=found, tools=())
        finally:
            progress.close()
        return HelperImages(built.infra, built.listener, built.auth, built.upload, built.storage)
    ids = {}
    async with Engine(settings.engine) as engine:
        for name, image in given.items():
            try:
                ids[name] = str((await engine.image(image))["Id"])
            except NotFound:
                raise ConfigError(
                    f"images.{name}: the engine has no image {image}",
                    hint="make it with 'dit4c images build', or load it",
                ) from None
            except EngineError as error:
                raise ConfigError(
                    f"engine: {settings.engine} does not answer: {error}",
                    hint="see that it runs, and that this user may use it",
                ) from None
    return HelperImages(**ids)
