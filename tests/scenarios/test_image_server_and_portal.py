"""A real image server asks a real portal: an instance saves, a node fetches, others see nothing."""

import base64

from systems.image_server import NAME, RegistryApi
from systems.portal import IMAGE, PortalAtWork

from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import issue
from dit4c_p2p.imageserver.app import ImageServer
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.messages.image_access import image_token_claims
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.portal.instances.images import create_image_secret
from dit4c_p2p.portal.models import ImageSave, Instance, SshKey
from dit4c_p2p.settings.imageserver import ImageServerLimits

ONE = "instances/one"


async def test_an_image_is_saved_fetched_and_exported_and_nobody_else_sees_it(tmp_path):
    async with PortalAtWork(tmp_path) as work:
        key = await work.enrol(str(NAME))
        limits = ImageServerLimits(access=0.001, keep_free=0)
        server = ImageServer(
            ImageServerConfig(
                name=NAME, key=key, url="http://localhost", portal=work.portal.info,
                data_folder=tmp_path / "images", addresses=(("127.0.0.1", 0),), limits=limits,
            )
        )  # fmt: skip
        await server.start()
        try:
            await _check(work, f"127.0.0.1:{server.ports[0]}")
            assert {text for check in server.checks.values() if (text := await check())} == set()
        finally:
            await server.stop()


async def _check(work: PortalAtWork, address: str) -> None:
    for id in ("one", "two"):
        name = f"instance-{id}"
        own = work.keys[name] = generate()
        await Instance.create(
            id=id, owner_id="admin", name=id, image_name="jupyterlab", image=IMAGE,
            scheduler="main", key_nonce="n", state="running", info="", sequence=1, log_tail="",
            node="node-main" if id == "one" else "node-x", answers_on=[], created_at=0.0,
            changed_at=0.0,
        )  # fmt: skip
        await SshKey.create(
            fingerprint=fingerprint(own), name=name, line=public_line(own, name), published_at=0.0
        )

    def client(peer: str, verbs: str) -> RegistryApi:
        token = issue(
            work.keys[peer], PeerName.parse(peer), str(NAME), now=work.clock(),
            claims=image_token_claims(ONE, verbs.split()),
        )  # fmt: skip
        api = RegistryApi(address, "")
        api.headers = {"Authorization": f"Bearer {token}"}
        return api

    layer = bytes(range(256)) * 4000
    async with client("instance-one", "pull push") as one:
        assert (await one.bundle(ONE, layer)).status == 403
        await ImageSave.create(id="s", instance_id="one", is_checkpoint=False, wanted_at=0.0)
        await one.push_by_chunks(ONE, layer)
        digest = await one.push_image(ONE, "v1", layer)
    async with client("node-main", "pull") as node:
        assert (await node.ask("GET", f"/v2/{ONE}/manifests/{digest}")).status == 200
        assert (await node.ask("GET", f"/v2/{ONE}/blobs/{Digest.of(layer)}")).body == layer
        assert (await node.ask("DELETE", f"/v2/{ONE}/manifests/{digest}")).status == 403
    async with client("instance-two", "pull push") as two:
        assert (await two.ask("GET", f"/v2/{ONE}/manifests/{digest}")).status == 404
        assert (await two.bundle(ONE, b"x")).status == 403
    secret = await create_image_secret("admin", ONE, now=work.clock(), lifetime_s=60.0)
    async with RegistryApi(address, "") as person:
        login = base64.b64encode(f"admin:{secret}".encode()).decode()
        person.headers = {"Authorization": f"Basic {login}"}
        assert (await person.ask("GET", "/v2/")).status == 200
        assert (await person.ask("GET", f"/v2/{ONE}/manifests/v1")).status == 200
        assert (await person.bundle(ONE, b"x")).status == 403
