"""Portal and router with certificates of their own, each a process from its TOML file."""

import asyncio
import os
import re
import ssl

import aiohttp
import pytest
from lib.certificates import Authority, write
from systems.all_in_one import dit4c, free_ports
from systems.four_processes import House


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
    house.stop_all()


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


HOSTS = {"portal": "portal.localhost", "router": "*.example.localhost"}
DAY_S = 86400


def expired(authority, files, host):
    write(files, *authority.pem(host, period=(-9 * DAY_S, -DAY_S)))


def not_yet_valid(authority, files, host):
    write(files, *authority.pem(host, period=(DAY_S, 9 * DAY_S)))


def key_of_another(authority, files, host):
    write(files, authority.pem(host)[0], authority.pem(host)[1])


def certificate_of_garbage(authority, files, host):
    write(files, b"\x00\xffgarbage", authority.pem(host)[1])


def key_of_garbage(authority, files, host):
    write(files, authority.pem(host)[0], b"\x00\xffgarbage")


def no_certificate(authority, files, host):
    files.certificate.unlink()


def unreadable_key(authority, files, host):
    files.key.unlink()
    files.key.mkdir()


def key_for_everybody(authority, files, host):
    files.key.chmod(0o644)


# What makes a good pair a bad one; what is said of it, and what to do.
BAD = {
    expired: (r"the certificate \S+ expired at \S+ \S+ UTC", "Have it renewed"),
    not_yet_valid: (r"the certificate \S+ is not yet valid", "Is this machine's clock right?"),
    key_of_another: (r"the key \S+ does not belong to the certificate", "made together"),
    certificate_of_garbage: (r"\S+ is not a certificate in PEM form", "BEGIN CERTIFICATE"),
    key_of_garbage: (r"\S+ is not a private key in PEM form", "BEGIN PRIVATE KEY"),
    no_certificate: (r"the certificate \S+ can't be read: No such file", "See that it is there"),
    unreadable_key: (r"the certificate's key \S+ can't be read: Is a dir", "See that it is there"),
    key_for_everybody: (
        r"the certificate's key \S+ can be read or changed by every user",
        "chmod o= ",
    ),
}


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_certificate_that_is_no_good_is_said_before_anything_else(house, authority, kind, spoil):
    """issue, bad input: certificate expired, not matching, unreadable."""
    spoil(authority, authority.files(kind, HOSTS[kind]), HOSTS[kind])
    (house.data(kind) / "key").unlink(missing_ok=True)
    said, hint = BAD[spoil]
    run = dit4c(kind, "run", "--config", house.file(kind))
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1), run.stderr
    assert re.match(f"dit4c: tls: {said}", run.stderr) and hint in run.stderr
    assert not (house.data(kind) / "key").exists(), "nothing was begun"
    check = dit4c("config", "check", house.file(kind))
    assert (check.returncode, check.stdout) == (1, "")
    assert check.stderr == f"{house.file(kind)}: {run.stderr.removeprefix('dit4c: ')}"


def test_a_certificate_for_another_host(house, authority):
    authority.files("portal", "www.example.org")
    for command in (("portal", "run", "--config"), ("config", "check")):
        done = dit4c(*command, house.file("portal"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert re.search(
            r"tls: the certificate \S+ is not for portal.localhost, it is for www.example.org. "
            "Have one made with portal.localhost among its names",
            done.stderr,
        )


async def test_a_certificate_for_other_hosts_than_the_portal_says(house, authority):
    authority.files("router", "www.example.org")
    house.start("router")
    house.start("portal")
    assert await asyncio.to_thread(house.ended, "router") == 1
    said = house.log("router").read_text().splitlines()[-1]
    assert "is not for *.example.localhost" in said


def other_host(authority, files, host):
    write(files, *authority.pem("www.example.org"))


# Those that a running component is shown, each a few seconds.
SHOWN = {
    **{spoil: BAD[spoil] for spoil in (expired, key_of_another, certificate_of_garbage)},
    other_host: ("is not for", "among its names"),
    unreadable_key: BAD[unreadable_key],
}


async def test_none_that_is_no_good_takes_the_place_of_a_good_one(house, authority):
    """While it runs, the log says what is wrong with the new files, and the old pair stays."""
    trusted = ssl.create_default_context(cafile=str(authority.file))
    ports = {"portal": house.portal_port, "router": house.https_port}
    names = {"portal": "portal.localhost", "router": "anything.example.localhost"}
    for kind in HOSTS:
        house.start(kind)
    for kind in HOSTS:
        house.wait_said(kind, "is up")
    before = {kind: await certificate_at(ports[kind], names[kind], trusted) for kind in HOSTS}

    refused = "the new certificate is not used"
    for number, (spoil, (said, hint)) in enumerate(SHOWN.items(), 1):
        for kind, host in HOSTS.items():
            spoil(authority, authority.files(kind, host), host)
        for kind in HOSTS:
            house.wait_said(kind, refused, times=number)
            lines = [line for line in house.log(kind).read_text().splitlines() if refused in line]
            assert re.search(said, lines[-1]) and hint in lines[-1]
            assert await certificate_at(ports[kind], names[kind], trusted) == before[kind]

    for kind, host in HOSTS.items():
        (authority.file.parent / f"{kind}.key").rmdir()
        authority.files(kind, host)
    for kind in HOSTS:
        house.wait_said(kind, "is in force, until")
        assert await certificate_at(ports[kind], names[kind], trusted) != before[kind]
