"""A certificate authority of a test's own."""

import datetime
import ipaddress
import ssl
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dit4c_p2p.net.tls import TlsFiles

DAY_S = 86400


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """Signs certificates; ``file`` is what those who trust it are given."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = (
            self._new("A test's authority", self._key, (-DAY_S, 90 * DAY_S))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _new(self, subject, key, period):
        now = time.time()

        def when(offset_s: float) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(now + offset_s, datetime.UTC)

        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("A test's authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(when(period[0]))
            .not_valid_after(when(period[1]))
            .add_extension(identifier, critical=False)
            .add_extension(authority, critical=False)
        )

    def pem(self, *names: str, period=(-60, 60 * DAY_S), key=None) -> tuple[bytes, bytes]:
        """A chain and its key for these names; ``period`` in seconds from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._new(names[0] if names else "nobody", key, period)
        if names:
            alternative = x509.SubjectAlternativeName([_san(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = builder.add_extension(usage, critical=False).sign(self._key, hashes.SHA256())
        chain = certificate.public_bytes(serialization.Encoding.PEM)
        return chain, key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def files(self, label: str, *names: str, **more) -> TlsFiles:
        """The same as files, ``label`` in their names."""
        files = TlsFiles(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        write(files, *self.pem(*names, **more))
        return files

    def client(self) -> ssl.SSLContext:
        """For those who trust nobody else."""
        return ssl.create_default_context(cafile=str(self.file))


def write(files: TlsFiles, chain: bytes, key: bytes) -> None:
    """Put a pair where it is looked for."""
    files.certificate.write_bytes(chain)
    files.key.write_bytes(key)
    files.key.chmod(0o600)
