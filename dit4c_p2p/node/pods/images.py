"""Images on a node: from their registry, from the image server, or of what is kept on the node."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from ipaddress import IPv4Network

from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.node import ImageReady, Progress
from dit4c_p2p.messages.saved_images import split_saved
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.registry_auth import RegistryLogins
from dit4c_p2p.node.network import host_network
from dit4c_p2p.node.owner import policy
from dit4c_p2p.node.owner.registries import check_registry
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.image_pull import fetch, is_here, resolve_tag
from dit4c_p2p.node.pods.reconciler import PodReconciler
from dit4c_p2p.node.pods.spec import Role
from dit4c_p2p.node.saved_images.fetcher import SavedImageFetcher
from dit4c_p2p.node.saved_images.kept_files import ensure_kept_image
from dit4c_p2p.node.saved_images.table import ImageTable
from dit4c_p2p.oci.reference import registry_of, split_tag

PodLock = Callable[[str], asyncio.Lock]


class NodeImages:
    """The images of one agent.

    :param host_now: reads the machine's networks; called for each image that is fetched.
    :param table: what saved images are called at the engine.
    """

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        builder: PodBuilder,
        reconciler: PodReconciler,
        table: ImageTable,
        host_now: Callable[[], host_network.HostNetwork],
    ) -> None:
        self._config = config
        self._engine = engine
        self._host_now = host_now
        self._logins = RegistryLogins(config.registry_logins)
        self._builder = builder
        self._reconciler = reconciler
        self._table = table
        self._saved_images = SavedImageFetcher(config, engine, table)

    async def ensure(
        self, image: str, lock: PodLock
    ) -> AsyncGenerator[Progress | ImageReady, None]:
        """Have the image here: fetched, if it names a registry, and can be served.

        :param lock: of the pod of an instance, by its id.
        :raises PolicyRefused, UnknownImage, NoPort: it can't run on this node.
        :raises RegistryError, DiskFull: it can't be fetched.
        """
        policy.check_image_by_policy(self._config.policy, image)
        saved = split_saved(image)
        if saved is not None:
            async with aclosing(self._saved_images.fetch(*saved)) as fetched:
                async for progress in fetched:
                    yield progress
        elif kept := split_kept(image):
            instance, node = kept
            policy.check_instance(instance)
            async with lock(instance):
                app = None
                if node == str(self._config.name):
                    app = (await self._builder.look(instance)).get(Role.APP)
                await ensure_kept_image(self._engine, self._table, image, app)
        else:
            await self._check_registry(image)
            limits, logins = self._config.limits, self._logins
            async with aclosing(fetch(self._engine, image, limits, logins)) as said:
                async for progress in said:
                    yield progress
        yield ImageReady(image=image, port=(await self._reconciler.image(image)).port)

    async def resolve(
        self, reference: str, lock: PodLock
    ) -> AsyncGenerator[Progress | ImageReady, None]:
        """As :meth:`ensure`, of what the reference means now; a tag becomes a digest.

        :raises PolicyRefused: it is no reference.
        """
        if (tagged := split_tag(reference)) is not None:
            await self._check_source(tagged[0])
            reference = await resolve_tag(self._engine, *tagged, self._logins)
        async with aclosing(self.ensure(reference, lock)) as said:
            async for one in said:
                yield one

    async def _check_registry(self, image: str) -> None:
        """Whether an image that is not here yet may be fetched from where its name leads.

        :raises PolicyRefused, RegistryError: it may not, or its registry is not known.
        """
        repository, _ = policy.parse_image(image)
        if repository and not await is_here(self._engine, image):
            await self._check_source(repository)

    async def _check_source(self, repository: str) -> None:
        host = self._host_now()
        own = {IPv4Network((int(address), 32)) for address in host.addresses}
        await check_registry(self._config.policy, registry_of(repository), own | host.on_link)
