"""A small portal that says whose files peers see, beside what :class:`RegistryPortal` does."""

import asyncio

from aiohttp import web
from fakes.registry import RegistryPortal

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.grants import FolderGrant, GrantEvent, Grants, TreeQuota


class GrantsPortal(RegistryPortal):
    """Answers a file server.

    :ivar grants: peer name → what ``GET …/grants`` says; 404 for others.
    :ivar proved: (person's id, fingerprint) of keys that have logged in.
    :ivar taken: fingerprints that belong to somebody else: 409.
    :ivar silent: whether the stream of grant events says nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.grants: dict[str, Grants] = {}
        self.proved: list[tuple[str, str]] = []
        self.taken: set[str] = set()
        self.silent = False
        self._grant_streams: set[asyncio.Queue[GrantEvent]] = set()

    def grant(self, peer: str, *folders: FolderGrant, quota: int | None = None) -> None:
        """Say what a peer sees, and tell of the change."""
        trees = dict.fromkeys(folder.tree for folder in folders)
        quotas = [TreeQuota(tree=tree, bytes=quota) for tree in trees]
        self.grants[peer] = Grants(peer=peer, folders=list(folders), quotas=quotas)
        self.tell(peer)

    def grant_usual(self, peer: str, person: str, quota: int | None = None) -> None:
        """An instance's or a person's usual folders."""
        tree, id = f"user-{person}", peer.partition("-")[2]
        place = "instance" if peer.startswith("instance-") else f"instances/{id}"
        self.grant(
            peer,
            FolderGrant(path="private", tree=tree, folder="private", write=True),
            FolderGrant(path=place, tree=tree, folder=f"instances/{id}", write=True),
            FolderGrant(path="shared/lab", tree="group-lab", folder="", write=True),
            FolderGrant(path="shared/library", tree="group-library", folder="", write=False),
            quota=quota,
        )

    def tell(self, *peers: str) -> None:
        """Tell that grants have changed."""
        for queue in self._grant_streams:
            queue.put_nowait(GrantEvent(peers=list(peers)))

    def add_routes(self, app: web.Application) -> None:
        """Beside the registry's."""
        app.router.add_get("/{kind}/{id}/grants", self._grants)
        app.router.add_get("/grants/events", self._grant_events)
        app.router.add_post("/users/{id}/ssh-keys/{fingerprint}/proved", self._proved)

    async def _grants(self, request: web.Request) -> web.Response:
        peer = f"{request.match_info['kind'].removesuffix('s')}-{request.match_info['id']}"
        if peer not in self.grants:
            raise web.HTTPNotFound
        return web.Response(body=encode(self.grants[peer]), content_type="application/json")

    async def _proved(self, request: web.Request) -> web.Response:
        said = request.match_info["id"], request.match_info["fingerprint"]
        if said[1] in self.taken:
            return web.Response(status=409)
        self.proved.append(said)
        return web.Response(status=204)

    async def _grant_events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[GrantEvent] = asyncio.Queue()
        self._grant_streams.add(queue)
        event = GrantEvent()
        try:
            while True:
                if not self.silent:
                    await response.write(b"data: " + encode(event) + b"\n\n")
                try:
                    async with asyncio.timeout(0.5):
                        event = await queue.get()
                except TimeoutError:
                    event = GrantEvent()
        finally:
            self._grant_streams.discard(queue)
