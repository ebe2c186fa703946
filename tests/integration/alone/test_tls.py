"""Portal and router with certificates of their own, each a process from its TOML file."""

import asyncio
import os
import ssl

import aiohttp
import pytest
from support.alone import House
from support.certificates import Authority, write
from support.system import free_ports


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """Who signs for everybody here; every process started by the test believes it."""
    authority = Authority(tmp_path / "authority")
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority.file))
    return authority


@pytest.fixture
def house(tmp_path, authority):
    house = House(tmp_path)
    house.url = f"https://portal.localhost:{house.portal_port}"
    portal = authority.files("portal", "portal.localhost")
    router = authority.files("router", "*.example.localhost")
    house.redirect_port, house.https_port = free_ports(2)
    house.write(
        "portal",
        f"""
url = "{house.url}"
user_url = "https://{{id}}.example.localhost:{house.https_port}/"
listen_tls = ["127.0.0.1:{house.portal_port}"]
redirect = ["127.0.0.1:{house.redirect_port}"]
connect = ["127.0.0.1:{house.portal_port}"]
tls = {{certificate = "{portal.certificate}", key = "{portal.key}"}}
routers = [{{id = "r1", ssh = ["127.0.0.1:{house.ssh_port}"], http = ["127.0.0.1:1"]}}]
""",
    )
    key = house.run("portal", "key", "--config", house.file("portal"))
    house.write(
        "router",
        f"""
id = "r1"
listen_tls = ["127.0.0.1:{house.https_port}"]
listen_ssh = ["127.0.0.1:{house.ssh_port}"]
tls = {{certificate = "{router.certificate}", key = "{router.key}"}}
portal = {{url = "{house.url}", key = "{key}", connect = ["127.0.0.1:{house.portal_port}"]}}
""",
    )
    house.run("portal", "init", "--config", house.file("portal"))
    yield house
    for kind in list(house.processes):
        assert house.stop(kind) == 0, house.log(kind).read_text()


def certificate_at(port, name, trusted):
    """The serial number of the certificate that is shown there now."""

    async def ask():
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusted, server_hostname=name
        )
        found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.transport.abort()
        return found

    return ask()


async def test_a_peer_is_let_in_over_tls_and_new_files_are_taken(house, authority):
    house.start("portal")
    house.start("router")
    house.wait_said("router", "is up")
    house.enrol("router", "r1")
    house.wait_said("router", "key events are being heard")

    trusted = ssl.create_default_context(cafile=str(authority.file))
    name = "anything.example.localhost"
    before = await certificate_at(house.https_port, name, trusted)
    files = authority.files("router", "*.example.localhost")
    async with asyncio.timeout(20):
        while await certificate_at(house.https_port, name, trusted) == before:
            await asyncio.sleep(0.2)

    async with aiohttp.ClientSession() as session:
        plain = f"http://127.0.0.1:{house.redirect_port}/login"
        headers = {"Host": "portal.localhost"}
        async with session.get(plain, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 308
            assert answer.headers["Location"] == f"{house.url}/login"

    write(files, b"nonsense", b"nonsense")
    house.wait_said("router", "the new certificate is not used")
    assert await certificate_at(house.https_port, name, trusted) != before


async def test_a_certificate_that_is_no_good_is_said_in_one_line(house, authority):
    authority.files("router", "www.example.org")
    house.start("router")
    house.start("portal")
    assert await asyncio.to_thread(house.processes.pop("router").wait, 60) == 1
    said = house.log("router").read_text().splitlines()[-1]
    assert "is not for *.example.localhost" in said
