"""A certificate's files: what is refused at the start, and how they are followed."""

import asyncio
import logging
import ssl
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from lib.certificates import DAY_S, Authority, write

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.tls import Certificate, TlsFiles, certificate_covers

HOST = "portal.example.test"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


def _refused(files, *names, **more) -> str:
    with pytest.raises(ConfigError) as caught:
        Certificate(files, names or (HOST,), **more).load()
    line = caught.value.one_line()
    assert "\n" not in line and caught.value.hint
    return line


def test_a_good_pair_is_taken(authority):
    files = authority.files("good", HOST, "*.apps.example.test", "127.0.0.1")
    certificate = Certificate(files, [HOST, "*.apps.example.test", "127.0.0.1"])
    certificate.load()
    assert certificate.expires == pytest.approx(time.time() + 60 * DAY_S, abs=60)


def test_expired(authority):
    assert "expired" in _refused(authority.files("old", HOST, period=(-2 * DAY_S, -DAY_S)))


def test_not_yet_valid_says_clock(authority):
    line = _refused(authority.files("new", HOST, period=(600, DAY_S)))
    assert "not yet valid" in line and "clock" in line


def test_not_matching_each_other(authority):
    one, other = authority.files("one", HOST), authority.files("other", HOST)
    assert "does not belong to" in _refused(TlsFiles(one.certificate, other.key))


@pytest.mark.parametrize(
    ("made_for", "asked"),
    [
        (["other.example.test"], HOST),
        (["example.test"], HOST),
        (["*.example.test"], "a.b.example.test"),
        (["x.apps.example.test"], "*.apps.example.test"),
        (["*.example.test"], "*.apps.example.test"),
        (["127.0.0.1"], "127.0.0.2"),
        ([], HOST),
    ],
)
def test_not_covering_the_host(authority, made_for, asked):
    assert f"is not for {asked}" in _refused(authority.files("x", *made_for), asked)


def test_wildcards():
    assert certificate_covers(["*.Example.test"], "portal.example.test")
    assert certificate_covers(["*.apps.example.test"], "*.apps.example.test")
    assert not certificate_covers(["*.test"], "portal.example.test")
    assert not certificate_covers(["*"], "localhost")


def test_unreadable_and_not_pem(authority, tmp_path):
    files = authority.files("x", HOST)
    missing = tmp_path / "missing.pem"
    assert "No such file" in _refused(TlsFiles(missing, files.key))
    assert "No such file" in _refused(TlsFiles(files.certificate, missing))
    assert "can't be read" in _refused(TlsFiles(tmp_path, files.key))
    missing.write_bytes(b"hello\n")
    assert "not a certificate" in _refused(TlsFiles(missing, files.key))
    missing.chmod(0o600)
    assert "not a private key" in _refused(TlsFiles(files.certificate, missing))
    missing.write_bytes(files.certificate.read_bytes()[:300])
    assert "not a certificate" in _refused(TlsFiles(missing, files.key))
    missing.write_bytes(b"x" * 2_000_000)
    assert "over" in _refused(TlsFiles(missing, files.key))


def test_key_that_others_can_read(authority):
    files = authority.files("x", HOST)
    files.key.chmod(0o644)
    line = _refused(files)
    assert "every user" in line and "chmod" in line
    files.key.chmod(0o640)  # Debian's group ssl-cert
    Certificate(files, [HOST]).load()


def test_key_with_a_password(authority):
    files = authority.files("x", HOST)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "password" in _refused(files)


def test_weak_key(authority):
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert "not usable" in _refused(authority.files("weak", HOST, key=weak))


# ---- following


class Served:
    """A server with the certificate, and what a client sees."""

    def __init__(self, certificate, authority):
        self.certificate = certificate
        self.authority = authority

    async def __aenter__(self):
        async def close(reader, writer):
            writer.close()

        self.server = await asyncio.start_server(
            close, "127.0.0.1", 0, ssl=self.certificate.context
        )
        self.following = asyncio.create_task(self.certificate.run())
        return self

    async def __aexit__(self, *error):
        self.following.cancel()
        self.server.close()

    async def connect(self, context=None, name=HOST):
        port = self.server.sockets[0].getsockname()[1]
        context = context or self.authority.client()
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        found = writer.get_extra_info("ssl_object")
        writer.transport.abort()
        return found

    async def shown(self) -> bytes:
        """The certificate that a new connection gets."""
        return (await self.connect()).getpeercert(binary_form=True)

    async def until_new(self, old: bytes) -> None:
        async with asyncio.timeout(5):
            while await self.shown() == old:
                await asyncio.sleep(0.02)


@pytest.fixture
async def served(authority):
    files = authority.files("live", HOST)
    certificate = Certificate(files, [HOST], poll_s=0.02)
    certificate.load()
    async with Served(certificate, authority) as it:
        yield it


async def test_only_modern_tls(served):
    found = await served.connect()
    assert found.version() == "TLSv1.3" and found.selected_alpn_protocol() is None
    context = served.authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    found = await served.connect(context)
    assert found.version() == "TLSv1.2" and found.selected_alpn_protocol() == "http/1.1"
    assert "ECDHE" in found.cipher()[0]
    context = served.authority.client()
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served.connect(context)


async def test_a_client_that_names_no_host(served):
    context = served.authority.client()
    context.check_hostname = False
    assert (await served.connect(context, name="")).version()


async def test_new_files_are_taken_without_a_restart(served, authority):
    old = await served.shown()
    write(served.certificate.files, *authority.pem(HOST))
    await served.until_new(old)


async def test_swapped_links_are_seen(authority, tmp_path):
    """As certbot does it: live/ has links into archive/."""
    one, two = authority.files("one", HOST), authority.files("two", HOST)
    live = TlsFiles(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    live.certificate.symlink_to(one.certificate)
    live.key.symlink_to(one.key)
    certificate = Certificate(live, [HOST], poll_s=0.02)
    certificate.load()
    async with Served(certificate, authority) as served:
        old = await served.shown()
        for link, target in ((live.certificate, two.certificate), (live.key, two.key)):
            new = link.with_suffix(".new")
            new.symlink_to(target)
            new.replace(link)
        await served.until_new(old)


@pytest.mark.parametrize("broken", ["half", "other key", "other host", "gone", "expired"])
async def test_a_broken_pair_keeps_the_old_one(served, authority, caplog, broken):
    old = await served.shown()
    files = served.certificate.files
    chain, key = authority.pem(HOST)
    match broken:
        case "half":
            files.certificate.write_bytes(chain[:200])
        case "other key":
            files.key.write_bytes(key)
        case "other host":
            write(files, *authority.pem("evil.example.test"))
        case "gone":
            files.key.unlink()
        case "expired":
            write(files, *authority.pem(HOST, period=(-2 * DAY_S, -DAY_S)))
    async with asyncio.timeout(5):
        while "the old one is" not in caplog.text:
            await asyncio.sleep(0.02)
    assert await served.shown() == old
    assert caplog.text.count("the old one is") == 1
    write(files, chain, key)
    await served.until_new(old)


async def test_the_log_warns_two_weeks_before_the_end(authority, caplog):
    now = time.time()
    certificate = Certificate(
        authority.files("x", HOST, period=(-60, 30 * DAY_S)), [HOST], clock=lambda: now, poll_s=0.01
    )
    certificate.load()
    following = asyncio.create_task(certificate.run())
    try:
        await asyncio.sleep(0.05)
        assert not caplog.records
        for days_on, level, words in (
            (16.5, logging.WARNING, "ends in 13 days"),
            (17.6, logging.WARNING, "ends in 12 days"),
            (31.0, logging.ERROR, "ended at"),
        ):
            caplog.clear()
            now = time.time() + days_on * DAY_S
            async with asyncio.timeout(5):
                while not caplog.records:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            (record,) = caplog.records
            assert record.levelno == level and words in record.getMessage()
    finally:
        following.cancel()
