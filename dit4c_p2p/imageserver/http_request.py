"""A request of an image server with what its handler needs."""

from concurrent.futures import Executor
from dataclasses import dataclass

from aiohttp import web

from dit4c_p2p.imageserver.access import Access
from dit4c_p2p.imageserver.metrics import ImageServerMetrics
from dit4c_p2p.imageserver.store.store import Store
from dit4c_p2p.settings.imageserver import ImageServerLimits


@dataclass(frozen=True)
class Call:
    """A request.

    :ivar repository: the repository's name, checked.
    :ivar last: the last part of the path, as it came.
    :ivar credentials: the ``Authorization`` field's value, which the portal has accepted.
    :ivar threads: where blobs are sent.
    :ivar prefix: the path of the server's canonical URL.
    """

    request: web.Request
    repository: str
    last: str
    credentials: str
    prefix: str
    store: Store
    access: Access
    limits: ImageServerLimits
    metrics: ImageServerMetrics
    threads: Executor

    @property
    def method(self) -> str:
        """``GET``, ``PUT`` and so on."""
        return self.request.method

    def location(self, tail: str) -> str:
        """The path of something in this repository, for a ``Location`` field."""
        return f"{self.prefix}/v2/{self.repository}/{tail}"
