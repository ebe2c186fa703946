"""An installation with an image server and two nodes, each with a container engine of its own.

The nodes are ``away``, at the machine's engine, and ``home``, at a second one. New instances go to
``away``, whose name comes first.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from systems.all_in_one import free_ports
from systems.docker_registry import RegistryProcess
from systems.four_processes import UP, House, bridge
from systems.nginx import Nginx
from systems.pods import docker
from systems.second_engine import SecondEngine
from systems.stock_registry import TOKEN_SHA256, nginx_of_the_guide

from dit4c_p2p.imagebuild import Images, default_cache_folder, ensure_images
from dit4c_p2p.node.agent import remove_everything_of_node

_HELPERS = ("infra", "listener", "auth", "upload")
# Tests that run meanwhile have others.
_RANGES = {"away": "10.220.0.0/16", "home": "10.221.0.0/16"}


class TwoNodes(House):
    """``processes`` are ``portal``, ``router``, ``scheduler``, ``imageserver``, ``away``, ``home``.

    :param engine: that of ``home``.
    :param stock: Debian's docker-registry behind nginx is in the image server's place.
    """

    def __init__(self, folder: Path, engine: SecondEngine, *, stock: bool = False) -> None:
        super().__init__(folder)
        self.engine = engine
        self._stock = stock
        self._beside = ExitStack()
        self.images_port, *observed = free_ports(4)
        names = ("imageserver", "away", "home")
        self._observed |= dict(zip(names, observed, strict=True))

    def _kind(self, name: str) -> str:
        return "node" if name in _RANGES else name

    def begin(self, images: Images, tools: str) -> None:
        """Write the files, start everything and enrol it."""
        here = bridge()
        server = f"""
[[imageservers]]
id = "main"
url = "http://localhost:{self.images_port}"
connect = ["{here}:{self.images_port}"]
"""
        if self._stock:
            server += f'token_sha256 = "{TOKEN_SHA256}"\n'
            self._start_stock_registry()
        self.write_portal(server + tools)
        self.write_peers(self.run("portal", "key", "--config", self.file("portal")))
        self.write("scheduler", f'nodes = ["away", "home"]\n{self.portal_table}')
        self.write(
            "imageserver",
            f'url = "http://localhost:{self.images_port}"\n'
            f'listen = ["127.0.0.1:{self.images_port}", "{here}:{self.images_port}"]\n'
            f"{self.portal_table}",
        )
        for name in _RANGES:
            self._write_node(name, images)
        self.run("portal", "init", "--config", self.file("portal"))
        peers = [("router", "r1"), ("scheduler", "main"), ("node", "away"), ("node", "home")]
        names = ["portal", "router", "scheduler", *_RANGES]
        if not self._stock:
            peers.append(("imageserver", "main"))
            names.append("imageserver")
        for name in names:
            self.start(name)
        self.wait_said("portal", "portal-main is up")
        for kind, id in peers:
            self.enrol(kind, id)
        for name in names:
            self.wait_said(name, UP)
        # A new instance goes to the one that is there, if the other has yet to be reached.
        for name in _RANGES:
            self.wait_said("scheduler", f"line to node-{name} is up")

    def _start_stock_registry(self) -> None:
        folder = self.folder / "stock"
        folder.mkdir()
        registry = self._beside.enter_context(RegistryProcess(folder, deletes=True))
        listen = [f"{host}:{self.images_port}" for host in ("127.0.0.1", bridge())]
        http = nginx_of_the_guide(listen, self.portal_port, registry.address)
        self._beside.enter_context(Nginx(folder / "nginx", http))

    def _write_node(self, name: str, images: Images) -> None:
        lines = [f'{role} = "{getattr(images, role)}"' for role in _HELPERS]
        engine = f'engine = "{self.engine.url}"\n' if name == "home" else ""
        tables = "\n".join(
            ["[images]", *lines, "[pods]", f'network_range = "{_RANGES[name]}"', "[policy]"]
        )
        self.write(name, f'id = "{name}"\n{engine}{self.portal_table}{tables}\n')
        text = self.file(name).read_text().replace(f'kind = "{name}"', 'kind = "node"', 1)
        self.file(name).write_text(text)

    def enrol(self, kind: str, id: str) -> None:
        """As an admin and an owner do it; a node's file has its id for a name."""
        portal = ("--config", self.file("portal"))
        own = self.file(id if kind == "node" else kind)
        nonce = self.run("key", "challenge", kind, id, *portal)
        proof = self.run(kind, "prove", nonce, "--config", own)
        self.run("key", "add", kind, id, "--proof", proof, *portal)

    def command(self, kind: str) -> list[str]:
        """What is run for one of the processes."""
        return [self._kind(kind), "run", "--config", str(self.file(kind))]

    def end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        try:
            self.stop_all()
        finally:
            self._beside.close()
            asyncio.run(remove_everything_of_node(self.data("home"), self.engine.url))
            asyncio.run(remove_everything_of_node(self.data("away")))
        assert self.engine.docker("ps", "-aq") == ""


@contextmanager
def two_nodes_with_a_tool(folder: Path, image: str, *, stock: bool = False) -> Iterator[TwoNodes]:
    """An installation that offers ``image``, which is removed at the end, as its tool ``web``.

    :param folder: its path is short: an engine's sockets are below it, whose paths may have 107
        characters.
    """
    made = asyncio.run(ensure_images(lambda *said: None, default_cache_folder(), tools=()))
    try:
        with SecondEngine(folder / "engine", networks="10.221.") as engine:
            # Not the tool's image: that comes from the image server.
            engine.copy(made.infra, made.listener, made.auth, made.upload)
            house = TwoNodes(folder / "house", engine, stock=stock)
            house.folder.mkdir()
            try:
                house.begin(made, f'[[tools]]\nname = "web"\ntitle = "Web"\nimage = "{image}"\n')
                yield house
            finally:
                house.end()
    finally:
        docker("rmi", "-f", image, check=False)
