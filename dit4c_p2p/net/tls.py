"""An :class:`ssl.SSLContext` whose certificate and key follow their files.

    certificate = Certificate(TlsFiles(chain, key), ["portal.example.org"])
    certificate.load()                     # ConfigError says in one line what is wrong
    following = asyncio.create_task(certificate.run())
    await loop.create_server(factory, host, port, ssl=certificate.context)

The context stays the same while the process runs. Each handshake uses the last valid pair: a pair
that an ACME client writes is in force within seconds; an invalid one (half written, not matching,
for another host) is logged and ignored.
"""

import asyncio
import ipaddress
import logging
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from dit4c_p2p.errors import ConfigError

_log = logging.getLogger(__name__)

_POLL_S = 2.0
_WARN_BEFORE_S = 14 * 86400
_WARN_EVERY_S = 86400
_MAX_FILE_BYTES = 1024 * 1024
# TLS 1.2: forward secrecy and authenticated encryption only; 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PUBLIC_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class TlsFiles:
    """Paths of the certificate (PEM, its intermediates may follow) and of its private key (PEM)."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class _CertificatePair:
    """A certificate and its key, checked."""

    context: ssl.SSLContext
    expires: float


class Certificate:
    """The certificate and key in ``files``, valid for every name of ``names``.

    :param names: host names, IP addresses, or ``*.example.net`` for every name below a domain.
    :param clock: seconds since 1970.
    :param poll_s: how often the files are looked at while :meth:`run` runs.
    """

    def __init__(
        self,
        files: TlsFiles,
        names: Sequence[str],
        *,
        clock: Callable[[], float] = time.time,
        poll_s: float = _POLL_S,
    ) -> None:
        self.files = files
        self.context = _new_tls_context()
        self.context.sni_callback = self._choose
        self._names = tuple(names)
        self._clock = clock
        self._poll_s = poll_s
        self._pair: _CertificatePair | None = None
        self._seen: object = None
        self._warn_at = 0.0

    @property
    def expires(self) -> float:
        """Expiry of the certificate in force, in seconds since 1970; 0 before :meth:`load`."""
        return self._pair.expires if self._pair else 0.0

    def load(self) -> None:
        """Load the files as they are now.

        :raises ConfigError: it is unreadable, its key can be read by everybody, the two don't
            belong together, or it is not good now or not for every name.
        """
        self._seen = _look_at_tls_files(self.files)
        self._pair = _read_tls_files(self.files, self._names, self._clock())
        self._warn_at = 0.0
        self._warn()

    async def run(self) -> None:
        """Follow the files and warn before the certificate expires, until cancelled."""
        pending: object = None
        while True:
            await asyncio.sleep(self._poll_s)
            look = _look_at_tls_files(self.files)
            # Certificate and key are rarely replaced in one go: wait until nothing moves.
            if look != self._seen and look == pending:
                self._reload()
            pending = look
            self._warn()

    def _reload(self) -> None:
        before = self.expires
        try:
            self.load()
        except ConfigError as error:
            _log.error(
                "the new certificate is not used, the old one is until %s: %s",
                _certificate_day(before),
                error.one_line(),
            )
            return
        _log.info(
            "%s is in force, until %s", self.files.certificate, _certificate_day(self.expires)
        )

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, own: ssl.SSLContext
    ) -> int | None:
        """Set the context of a handshake; called by OpenSSL with or without a server name."""
        if self._pair is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._pair.context
        return None

    def _warn(self) -> None:
        """Log a warning once a day, from two weeks before the expiry."""
        now = self._clock()
        left_s = self.expires - now
        if left_s > _WARN_BEFORE_S or now < self._warn_at:
            return
        self._warn_at = now + _WARN_EVERY_S
        if left_s <= 0:
            _log.error("%s ended at %s", self.files.certificate, _certificate_day(self.expires))
        else:
            _log.warning(
                "%s ends in %d days, at %s: see that it is renewed",
                self.files.certificate,
                left_s // 86400,
                _certificate_day(self.expires),
            )


def check_tls_files(files: TlsFiles, names: Sequence[str]) -> None:
    """Check whether the certificate and key in ``files`` can be used now.

    :raises ConfigError: see :meth:`Certificate.load`.
    """
    _read_tls_files(files, names, time.time())


def certificate_covers(patterns: Sequence[str], name: str) -> bool:
    """Whether one of a certificate's DNS names is ``name`` or a wildcard for it (RFC 6125).

    A ``name`` of the form ``*.example.net`` is met by exactly that wildcard.
    """
    name = name.lower().rstrip(".")
    _, _, parent = name.partition(".")
    wanted = {name, f"*.{parent}"} if parent else {name}
    return any(pattern.lower().rstrip(".") in wanted for pattern in patterns)


def _new_tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _look_at_tls_files(files: TlsFiles) -> object:
    """Return a value that changes when one of the files, or the target of a link, changes."""
    states: list[object] = []
    for path in (files.certificate, files.key):
        try:
            found = path.stat()
        except OSError as error:
            states.append(error.errno)
        else:
            states.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(states)


def _read_tls_files(files: TlsFiles, names: Sequence[str], now: float) -> _CertificatePair:
    """:raises ConfigError: see :meth:`Certificate.load`."""
    chain = _read_tls_file(files.certificate, "the certificate")
    certificate = _parse_certificate_chain(files.certificate, chain)
    _check_certificate_time(files.certificate, certificate, now)
    _check_certificate_names(files.certificate, certificate, names)
    key = _read_tls_file(files.key, "the certificate's key")
    if stat.S_IMODE(files.key.stat().st_mode) & 0o007:
        raise ConfigError(
            f"the certificate's key {files.key} can be read or changed by every user",
            hint=f"take it away from others: chmod o= {files.key}",
        )
    _check_certificate_key_match(files, certificate, key)
    context = _new_tls_context()
    # The very bytes that were checked: the files may be others by now.
    with _path_of_bytes(chain) as chain_path, _path_of_bytes(key) as key_path:
        try:
            context.load_cert_chain(chain_path, key_path)
        except ssl.SSLError as error:
            raise ConfigError(
                f"{files.certificate} is not usable: {(error.reason or str(error)).lower()}",
                hint="have a new one made, with an ECDSA P-256 or RSA 2048 key",
            ) from None
    return _CertificatePair(context, certificate.not_valid_after_utc.timestamp())


@contextmanager
def _path_of_bytes(content: bytes) -> Iterator[str]:
    """Bytes under a path in this process's own memory, for what reads files only."""
    descriptor = os.memfd_create("dit4c-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _read_tls_file(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{what} {path} can't be read: {error.strerror}",
            hint="see that it is there and that this program's user may read it",
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{what} {path} is over {_MAX_FILE_BYTES} bytes", hint="is it the file?")
    return content


def _parse_certificate_chain(path: Path, chain: bytes) -> x509.Certificate:
    """The first certificate of a chain; the others must be certificates as well."""
    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise ConfigError(
            f"{path} is not a certificate in PEM form",
            hint="it begins with -----BEGIN CERTIFICATE-----; certbot calls it fullchain.pem",
        ) from None


def _check_certificate_time(path: Path, certificate: x509.Certificate, now: float) -> None:
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if ends <= now:
        raise ConfigError(
            f"the certificate {path} expired at {_certificate_day(ends)}", hint="have it renewed"
        )
    if begins > now:
        raise ConfigError(
            f"the certificate {path} is not yet valid, it will be at {_certificate_day(begins)}",
            hint="is this machine's clock right?",
        )


def _check_certificate_names(
    path: Path, certificate: x509.Certificate, names: Sequence[str]
) -> None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = found.get_values_for_type(x509.DNSName)
        addresses = [str(a) for a in found.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        hosts, addresses = [], []
    for name in names:
        good = name in addresses if _is_address_name(name) else certificate_covers(hosts, name)
        if not good:
            raise ConfigError(
                f"the certificate {path} is not for {name}, it is for "
                f"{', '.join([*hosts, *addresses][:5]) or 'no host'}",
                hint=f"have one made with {name} among its names",
            )


def _check_certificate_key_match(
    files: TlsFiles, certificate: x509.Certificate, pem: bytes
) -> None:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(
            f"the certificate's key {files.key} is protected by a password",
            hint="give it without one: openssl pkey -in OLD -out NEW",
        ) from None
    except ValueError:
        raise ConfigError(
            f"{files.key} is not a private key in PEM form",
            hint="it begins with -----BEGIN PRIVATE KEY-----",
        ) from None
    if key.public_key().public_bytes(*_PUBLIC_FORM) != certificate.public_key().public_bytes(
        *_PUBLIC_FORM
    ):
        raise ConfigError(
            f"the key {files.key} does not belong to the certificate {files.certificate}",
            hint="give the two that were made together",
        )


def _is_address_name(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _certificate_day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))
