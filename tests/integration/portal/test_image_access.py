"""Who may do what at an image server, as the portal says it to one."""

import base64
import hashlib

import pytest
from systems.portal import IMAGE, PortalAtWork

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import issue
from dit4c_p2p.messages.image_access import AUTH_PATH, SERVER_TOKEN_HEADER, image_token_claims
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.names import BaseRepository
from dit4c_p2p.portal.config import KnownImageServer
from dit4c_p2p.portal.instances.images import SAVED_REGISTRY, create_image_secret
from dit4c_p2p.portal.models import ImageSave, ImageSecret, Instance, Person, SshKey

BASE = BaseRepository(Digest(IMAGE))
OTHER_BASE = BaseRepository(Digest.of(b"another"))
AUDIENCE = "imageserver-main"
STATIC = "a proxy's static token"


class Asking:
    """An image server that asks; the instances ``one`` and ``two`` are there.

    ``two`` is derived from ``one`` and on ``node-main``, ``other`` is neither.
    """

    def __init__(self, work: PortalAtWork) -> None:
        self.work = work

    async def set_up(self) -> None:
        for name in ("imageserver-main", "imageserver-second"):
            await self.work.enrol(name)
        await self.work.person("ada")
        derived = f"{SAVED_REGISTRY}/instances/one@{IMAGE}"
        for id, image, node in (
            ("one", IMAGE, "node-other"),
            ("two", derived, "node-main"),
            ("other", f"registry.example.org/tool@{IMAGE}", "node-other"),
        ):
            await Instance.create(
                id=id, owner_id="ada", name=id, image_name="jupyterlab", image=image,
                scheduler="main", key_nonce="n", state="running", info="", sequence=1,
                log_tail="", node=node, answers_on=[], created_at=0.0, changed_at=0.0,
            )  # fmt: skip
            await self.publish(f"instance-{id}")

    async def publish(self, name: str) -> None:
        """Have a key in force, as an instance's is without a scheduler's help."""
        from dit4c_p2p.identity.keys import fingerprint, public_line

        key = self.work.keys[name] = generate()
        await SshKey.create(
            fingerprint=fingerprint(key), name=name, line=public_line(key, name),
            published_at=0.0,
        )  # fmt: skip

    async def save(self, instance: str, **more: object) -> None:
        """Have the portal want a save."""
        await ImageSave.create(
            id=f"save-{instance}", instance_id=instance, is_checkpoint=False, wanted_at=0.0, **more
        )

    def token(self, name: str, repository: str, verbs: str, *sources: str, **more: object) -> str:
        """A peer's token for the image server."""
        return issue(
            more.pop("key", None) or self.work.keys[name],
            PeerName.parse(name),
            str(more.pop("audience", AUDIENCE)),
            now=self.work.clock() + float(more.pop("ahead", 0.0)),
            claims=image_token_claims(repository, verbs.split(), sources),
        )

    async def ask(
        self, credentials: str, path: str, server: str = "imageserver-main", **more: object
    ) -> int:
        """The status of the portal's answer."""
        proof = more.get("proof") or self.work.jwt(server)
        headers = {SERVER_TOKEN_HEADER: str(proof)}
        if credentials:
            headers["Authorization"] = credentials
        async with self.work.browser() as client:
            return (await client.request("GET", f"{AUTH_PATH}/{path}", headers=headers)).status

    async def may(self, name: str, verb: str, repository: str) -> bool:
        """Whether a peer may, with a token that names exactly this."""
        status = await self.ask(
            f"Bearer {self.token(name, repository, verb)}", f"{verb}/{repository}"
        )
        assert status in (204, 403)
        return status == 204


@pytest.fixture
async def asking(tmp_path):
    """An image server that asks a portal of its own."""
    async with PortalAtWork(tmp_path) as work:
        asking = Asking(work)
        await asking.set_up()
        yield asking


async def test_who_may_do_what(asking):
    for name, verb, repository, expected in (
        ("instance-one", "pull", "instances/one", True),
        ("instance-one", "push", "instances/one", False),
        ("instance-one", "delete", "instances/one", False),
        ("instance-one", "pull", "instances/two", False),
        ("instance-one", "push", "instances/two", False),
        ("instance-one", "pull", str(OTHER_BASE), True),
        ("instance-one", "push", str(BASE), False),
        ("instance-one", "pull", "elsewhere/one", False),
        ("instance-two", "pull", "instances/one", True),
        ("instance-two", "push", "instances/one", False),
        ("node-main", "pull", "instances/one", True),
        ("node-main", "pull", "instances/two", True),
        ("node-main", "pull", "instances/other", False),
        ("node-main", "push", "instances/two", False),
        ("node-main", "pull", str(BASE), True),
        ("node-main", "push", str(BASE), False),
        ("scheduler-main", "pull", "instances/one", False),
        ("router-main", "pull", str(BASE), False),
    ):
        assert await asking.may(name, verb, repository) is expected, (name, verb, repository)


async def test_an_instance_may_write_while_a_save_of_it_is_wanted(asking):
    for instance in ("one", "two", "other"):
        await asking.save(instance)
    assert await asking.may("instance-one", "push", "instances/one")
    assert not await asking.may("instance-one", "push", "instances/two")
    assert not await asking.may("instance-one", "delete", "instances/one")
    # Its base, which the portal knows by the image's id, and no other.
    assert await asking.may("instance-one", "push", str(BASE))
    assert not await asking.may("instance-one", "push", str(OTHER_BASE))
    # What is derived has its layers in the repository of its source.
    assert not await asking.may("instance-two", "push", str(BASE))
    # An image that the portal knows by a name: the first base asked for is the save's.
    assert await asking.may("instance-other", "push", str(OTHER_BASE))
    assert await asking.may("instance-other", "push", str(OTHER_BASE))
    assert not await asking.may("instance-other", "push", str(BASE))
    # Its countersignature goes there after it was confirmed.
    await ImageSave.all().update(ended_at=asking.work.clock(), digest=IMAGE)
    assert await asking.may("instance-one", "push", "instances/one")
    await ImageSave.all().update(ended_at=asking.work.clock(), digest=None)
    for repository in ("instances/one", str(BASE)):
        assert not await asking.may("instance-one", "push", repository)


async def test_a_discarded_instance_may_nothing(asking):
    await asking.save("one")
    await Instance.filter(id="one").update(state="discarded")
    assert not await asking.may("instance-one", "push", "instances/one")
    assert not await asking.may("instance-one", "pull", "instances/one")


async def test_a_token_is_good_for_what_it_names_only(asking):
    await asking.save("two")
    token = asking.token("instance-two", "instances/two", "push", "instances/one")
    bearer = f"Bearer {token}"
    basic = base64.b64encode(f"instance-two:{token}".encode()).decode()
    assert await asking.ask(bearer, "push/instances/two") == 204
    assert await asking.ask(f"Basic {basic}", "push/instances/two") == 204
    assert await asking.ask(bearer, "pull/instances/two") == 403
    assert await asking.ask(bearer, "pull/instances/one") == 204
    assert await asking.ask(bearer, f"pull/{BASE}") == 403
    assert await asking.ask(bearer, "login") == 204


async def test_credentials_that_are_not_good_are_401(asking):
    for wrong in (
        {"audience": "imageserver-second"},
        {"audience": asking.work.url},
        {"key": generate()},
        {"ahead": -1000.0},
        {"ahead": 1000.0},
    ):
        token = asking.token("instance-one", "instances/one", "pull", **wrong)
        assert await asking.ask(f"Bearer {token}", "pull/instances/one") == 401, wrong
        assert await asking.ask(f"Bearer {token}", "login") == 401, wrong
    for wrong in ("", "Bearer", "Bearer x.y.z", "Basic x", "Basic YQ==", "Digest x", "Basic YTpi"):
        assert await asking.ask(wrong, "pull/instances/one") == 401, wrong


async def test_a_revoked_key_is_401(asking):
    token = asking.token("instance-one", "instances/one", "pull")
    await SshKey.filter(name="instance-one").update(revoked_at=1.0)
    assert await asking.ask(f"Bearer {token}", "pull/instances/one") == 401


async def test_only_an_image_server_is_answered(asking):
    good = f"Bearer {asking.token('instance-one', 'instances/one', 'pull')}"
    stranger = asking.work.jwt("imageserver-main", key=generate())
    for proof in (asking.work.jwt("node-main"), "x", stranger):
        assert await asking.ask(good, "pull/instances/one", proof=proof) == 403


async def test_the_proxy_of_a_stock_registry_proves_itself_by_a_static_token(asking):
    work = asking.work
    entry = KnownImageServer(
        ImageServerInfo(name=AUDIENCE, url="https://images.example.org"),
        hashlib.sha256(STATIC.encode()).hexdigest(),
    )
    await work.stop()
    work.with_config(imageservers=(entry,))
    await work.start()
    good = f"Bearer {asking.token('instance-one', 'instances/one', 'pull')}"
    assert await asking.ask(good, "pull/instances/one", proof=STATIC) == 204
    assert await asking.ask(good, "pull/instances/one", proof=f"{STATIC}x") == 403
    async with work.browser() as client:
        config = (await client.request("GET", "/config.json")).json
    assert config["imageservers"] == [
        {"name": AUDIENCE, "url": "https://images.example.org", "connect": []}
    ]


async def test_a_secret_pulls_one_repository_until_it_ends(asking):
    work = asking.work
    secret = await create_image_secret("ada", "instances/one", now=work.clock(), lifetime_s=600.0)

    def basic(user: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()

    assert (await ImageSecret.get(person_id="ada")).used_at is None
    assert await asking.ask(basic("ada"), "login") == 204
    assert (await ImageSecret.get(person_id="ada")).used_at is not None
    assert await asking.ask(basic("ada"), "pull/instances/one") == 204
    assert await asking.ask(basic("ada"), "push/instances/one") == 403
    assert await asking.ask(basic("ada"), "pull/instances/two") == 403
    assert await asking.ask(basic("eve"), "pull/instances/one") == 401
    work.clock.ahead = 601
    assert await asking.ask(basic("ada"), "login") == 401
    work.clock.ahead = 0
    await Person.filter(id="ada").update(disabled_at=1.0)
    assert await asking.ask(basic("ada"), "pull/instances/one") == 401


async def test_a_person_gets_a_secret_for_what_was_saved_of_their_instance(asking):
    work = asking.work
    await work.stop()
    info = ImageServerInfo(name=AUDIENCE, url="https://images.example.org")
    work.with_config(imageservers=(KnownImageServer(info),))
    await work.start()
    token = await work.portal.create_api_token("ada", "api")
    path = "instances/one/pull-secrets"
    async with work.api(token) as ada, work.api() as admin:
        assert (await ada.request("POST", path, json={})).status == 409  # nothing is saved
        await asking.save("one", ended_at=1.0, digest=IMAGE)
        assert (await admin.request("POST", path, json={})).status == 404  # another's
        for wrong in ({"hours": 0}, {"hours": 24 * 7 + 1}, {"days": 1}):
            assert (await ada.request("POST", path, json=wrong)).status == 400
        made = await ada.request("POST", path, json={"hours": 2})
        assert made.status == 201
    assert made.json["image"] == f"images.example.org/instances/one@{IMAGE}"
    login = base64.b64encode(f"{made.json['user']}:{made.json['secret']}".encode()).decode()
    assert await asking.ask(f"Basic {login}", "pull/instances/one") == 204
    assert await asking.ask(f"Basic {login}", "pull/instances/two") == 403
    work.clock.ahead = 2 * 3600 + 1
    assert await asking.ask(f"Basic {login}", "pull/instances/one") == 401
