"""SSH keys: generate, store, check, fingerprint, and choose their JWT algorithm."""

import base64
import hashlib
from pathlib import Path

import asyncssh
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from dit4c_p2p.atomic_file import write_whole
from dit4c_p2p.identity.errors import InvalidKey

_MIN_RSA_BITS = 3072
_ALGORITHMS = {
    "ssh-ed25519": "Ed25519",
    "ecdsa-sha2-nistp256": "ES256",
    "ecdsa-sha2-nistp384": "ES384",
    "ecdsa-sha2-nistp521": "ES512",
    "ssh-rsa": "PS256",
}
# Kept in a token that its person touches (OpenSSH's PROTOCOL.u2f). They sign SSH logins, no JWTs.
_SECURITY_KEYS = frozenset({"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"})


def fingerprint(key: asyncssh.SSHKey) -> str:
    """SHA-256 of the public key's wire form (RFC 4253 section 6.6), base64url, no padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(key.public_data).digest()).rstrip(b"=").decode()


def generate() -> asyncssh.SSHKey:
    """Return a new Ed25519 key pair."""
    return asyncssh.generate_private_key("ssh-ed25519")


def public_line(key: asyncssh.SSHKey, comment: str = "") -> str:
    """``algorithm base64 comment`` without a line end."""
    algorithm, data = key.export_public_key("openssh").decode().split()[:2]
    return f"{algorithm} {data} {comment}".rstrip()


def parse_public(line: str, *, security_keys: bool = False) -> asyncssh.SSHKey:
    """One OpenSSH public key line.

    :param security_keys: whether ``sk-`` keys are accepted as well; people may have them.
    :raises InvalidKey: not a key, a certificate, or of an algorithm or size not accepted.
    """
    try:
        key = asyncssh.import_public_key(line.strip())
    except (asyncssh.KeyImportError, ValueError) as error:
        raise InvalidKey(
            f"not an SSH public key: {error}", hint="give the one line of the .pub file"
        ) from None
    return check_key_acceptable(key, security_keys=security_keys)


def check_key_acceptable(key: asyncssh.SSHKey, *, security_keys: bool = False) -> asyncssh.SSHKey:
    """The key itself, if its algorithm and size are accepted.

    :param security_keys: as for :func:`parse_public`.
    :raises InvalidKey: anything but Ed25519, ECDSA, and RSA of at least 3072 bits.
    """
    algorithm = key.get_algorithm()
    if security_keys and algorithm in _SECURITY_KEYS:
        return key
    if algorithm not in _ALGORITHMS:
        raise InvalidKey(
            f"{algorithm} keys are not accepted", hint="make one with: ssh-keygen -t ed25519"
        )
    if algorithm == "ssh-rsa":
        modulus = key.pyca_key
        bits = modulus.key_size if isinstance(modulus, RSAPrivateKey | RSAPublicKey) else 0
        if bits < _MIN_RSA_BITS:
            raise InvalidKey(
                f"an RSA key of {bits} bits is too short",
                hint=f"{_MIN_RSA_BITS} bits at least, or: ssh-keygen -t ed25519",
            )
    return key


def jwt_algorithm(key: asyncssh.SSHKey) -> str:
    """The one JWS algorithm a key signs JWTs with (RFC 7518, RFC 9864), fixed by its type."""
    return _ALGORITHMS[check_key_acceptable(key).get_algorithm()]


def key_signs_tokens(key: asyncssh.SSHKey) -> bool:
    """Whether a key can sign JWTs; a security key can't."""
    return key.get_algorithm() in _ALGORITHMS


def load_or_create(path: Path) -> asyncssh.SSHKey:
    """Return the private key in ``path``; the first call generates it with mode 0600.

    :raises InvalidKey: the file is no private key, or others may read it.
    :raises NotWritten: the file can't be written.
    :raises OSError: the file can't be read.
    """
    if not path.exists():
        key = generate()
        write_private(path, key)
        return key
    if path.stat().st_mode & 0o077:
        raise InvalidKey(
            f"{path} can be read by others", hint=f"make it yours alone: chmod 600 {path}"
        )
    try:
        return check_key_acceptable(asyncssh.read_private_key(path))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidKey(f"{path} is not a usable private key: {error}") from None


def write_private(path: Path, key: asyncssh.SSHKey) -> None:
    """Write an OpenSSH PEM, see :func:`write_whole`."""
    write_whole(path, key.export_private_key("openssh"))
