"""Debian's docker-registry behind nginx, which asks the portal by the same end point who may.

The configuration of nginx is the one of docs/image-server.md, with this test's addresses.
"""

import asyncio
import base64

import pytest
import pytest_asyncio
from systems.all_in_one import free_ports
from systems.docker_registry import ImageRegistry
from systems.image_server import RegistryApi
from systems.nginx import Nginx
from systems.portal import IMAGE, PortalAtWork
from systems.stock_registry import TOKEN_SHA256, nginx_of_the_guide

from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import issue
from dit4c_p2p.messages.image_access import image_token_claims
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.portal.config import KnownImageServer
from dit4c_p2p.portal.models import ImageSave, Instance, SshKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "imageserver-stock"
ONE = "instances/one"


class Stock:
    """The three together, and an instance of which a save is wanted."""

    def __init__(self, work: PortalAtWork, address: str) -> None:
        self.work, self.address = work, address

    async def instance(self, id: str) -> None:
        name = f"instance-{id}"
        key = self.work.keys[name] = generate()
        await Instance.create(
            id=id, owner_id="admin", name=id, image_name="jupyterlab", image=IMAGE,
            scheduler="main", key_nonce="n", state="running", info="", sequence=1, log_tail="",
            node="node-main", answers_on=[], created_at=0.0, changed_at=0.0,
        )  # fmt: skip
        await SshKey.create(
            fingerprint=fingerprint(key), name=name, line=public_line(key, name), published_at=0.0
        )

    def api(self, peer: str, repository: str, verbs: str, *sources: str) -> RegistryApi:
        """A client with a peer's token."""
        token = issue(
            self.work.keys[peer], PeerName.parse(peer), NAME, now=self.work.clock(),
            claims=image_token_claims(repository, verbs.split(), sources),
        )  # fmt: skip
        api = RegistryApi(self.address, "")
        secret = base64.b64encode(f"{peer}:{token}".encode()).decode()
        api.headers = {"Authorization": f"Basic {secret}"}
        return api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stock(tmp_path_factory):
    """docker-registry behind nginx, and a portal with two instances."""
    tmp_path = tmp_path_factory.mktemp("stock")
    (front,) = free_ports(1)
    async with PortalAtWork(tmp_path) as work, ImageRegistry(tmp_path, deletes=True) as registry:
        await work.stop()
        work.with_config(
            imageservers=(
                KnownImageServer(
                    ImageServerInfo(name=NAME, url=f"http://localhost:{front}"),
                    TOKEN_SHA256,
                ),
            )
        )
        await work.start()
        http = nginx_of_the_guide([f"127.0.0.1:{front}"], work.port, registry.address)
        with Nginx(tmp_path / "nginx", http):
            stock = Stock(work, f"127.0.0.1:{front}")
            for id in ("one", "two"):
                await stock.instance(id)
            yield stock


async def test_the_portal_decides_for_a_stock_registry(stock):
    """Writing while a save is wanted, reading what is one's own, and nobody else."""
    async with stock.api("instance-one", ONE, "pull push") as one:
        assert (await one.ask("GET", "/v2/")).status == 200
        assert (await one.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status == 403
        await ImageSave.create(id="save-1", instance_id="one", is_checkpoint=False, wanted_at=0.0)
        layer = b"a layer " * 1_000_000
        digest = await one.push_image(ONE, "v1", layer)
        await ImageSave.all().update(ended_at=1.0)
        assert (await one.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status == 403
        assert (await one.ask("DELETE", f"/v2/{ONE}/manifests/{digest}")).status == 403
        assert (await one.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(layer)}")).body == layer
        assert (await one.ask("GET", "/v2/_catalog")).status == 403
        # Our clients learn by it that there is no chunk exchange.
        assert (await one.ask("POST", f"/v2/{ONE}/_dit4c/chunks/missing")).status == 404
    async with stock.api("instance-two", ONE, "pull push") as two:
        assert (await two.ask("HEAD", f"/v2/{ONE}/blobs/{Digest.of(layer)}")).status == 403
        assert (await two.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status == 403
    async with RegistryApi(stock.address, "") as nobody:
        answer = await nobody.ask("GET", "/v2/")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await nobody.ask("GET", f"/v2/{ONE}/tags/list")).status == 401
        assert (await nobody.ask("GET", "/v2/_catalog")).status == 401


async def test_a_blob_is_not_mounted_past_the_portal(stock):
    """nginx asks for the repository of the path only: a mount from another is not let through."""
    for id in ("one", "two"):
        await ImageSave.create(id=f"save-{id}", instance_id=id, is_checkpoint=False, wanted_at=0.0)
    async with stock.api("instance-one", ONE, "pull push") as one:
        digest = await one.push_blob(ONE, b"belongs to one")
    async with stock.api("instance-two", "instances/two", "pull push") as two:
        for query in (f"mount={digest}&from={ONE}", f"from={ONE}&mount={digest}&x=1",
                      f"%6dount={digest}&from={ONE}", f"mount={digest}"):  # fmt: skip
            answer = await two.ask("POST", f"/v2/instances/two/blobs/uploads/?{query}")
            assert answer.status in (202, 400), query
            found = await two.ask("HEAD", f"/v2/instances/two/blobs/{digest}")
            assert found.status == 404, query


async def test_a_stock_client_is_none_the_wiser(stock):
    await ImageSave.create(id="save-2", instance_id="one", is_checkpoint=False, wanted_at=0.0)
    async with stock.api("instance-one", ONE, "pull push") as one:
        await one.push_image(ONE, "v1", b"layer")
        _, _, secret = one.headers["Authorization"].partition(" ")
    process = await asyncio.create_subprocess_exec(
        "skopeo", "inspect", "--raw", "--tls-verify=false",
        "--creds", base64.b64decode(secret).decode(), f"docker://{stock.address}/{ONE}:v1",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err
    assert b"schemaVersion" in out


async def test_a_portal_that_is_away_lets_nobody_in(stock):
    await stock.work.stop()
    async with stock.api("instance-one", ONE, "pull") as one:
        try:
            assert (await one.ask("GET", f"/v2/{ONE}/tags/list")).status >= 500
        finally:
            await stock.work.start()
        assert (await one.ask("GET", f"/v2/{ONE}/tags/list")).status == 200
