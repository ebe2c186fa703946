"""Logins at registries that don't serve everybody, from a file as ``docker login`` writes it.

    {"auths": {"registry.example.org": {"auth": "bm9kZTpzZWNyZXQ="}}}

``auth`` is ``NAME:PASSWORD`` in Base64; an ``identitytoken`` beside it counts instead of the
password. A program that keeps the passwords (``credsStore``, ``credHelpers``) is not asked. The
engine takes a login in a header of its own (Docker Engine API, "Authentication").
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.oci.reference import DOCKER_HUB

_HUB_HOSTS = ("index.docker.io", "registry-1.docker.io")
_MAX_BYTES = 1024 * 1024


class RegistryLogins:
    """The logins of one file, read anew whenever one is asked for; none without a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def of(self, registry: str) -> str | None:
        """What the engine's header ``X-Registry-Auth`` says for a registry, or None.

        :param registry: its host, as :func:`~dit4c_p2p.oci.reference.registry_of` has it.
        :raises ConfigError: the file can't be read, or is something else.
        """
        return None if self._path is None else _read_registry_logins(self._path).get(registry)

    def check(self) -> None:
        """See that the file can be read.

        :raises ConfigError: it can't, or is something else.
        """
        self.of("")


def _read_registry_logins(path: Path) -> dict[str, str]:
    """The header for each registry."""
    try:
        if path.stat().st_mode & 0o007:
            raise _wrong_registry_logins(
                path,
                "everybody on this machine can read it",
                f"take it away from others: chmod o= {path}",
            )
        with path.open("rb") as file:
            auths = json.loads(file.read(_MAX_BYTES)).get("auths", {})
        return {
            (host := _registry_host_of_key(key)): _registry_auth_header(host, entry)
            for key, entry in auths.items()
        }
    except OSError as error:
        raise _wrong_registry_logins(
            path,
            f"it can't be read: {error.strerror or error}",
            "make it readable for the user that runs the node",
        ) from None
    except _NoRegistryPassword as error:
        raise _wrong_registry_logins(
            path,
            f"there is no password for {error} in it",
            "where no credential store is set, docker login writes it there",
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _wrong_registry_logins(
            path, "it is something else", "give the file that docker login writes"
        ) from None


class _NoRegistryPassword(Exception):
    """A credential store has it."""


def _registry_auth_header(host: str, entry: dict[str, Any]) -> str:
    if token := entry.get("identitytoken"):
        login = {"identitytoken": str(token), "serveraddress": host}
    elif auth := entry.get("auth"):
        try:
            name, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except binascii.Error:
            raise ValueError("auth is not in Base64") from None
        if not colon:
            raise ValueError("auth has no password")
        login = {"username": name, "password": password.rstrip("\0"), "serveraddress": host}
    else:
        raise _NoRegistryPassword(host)
    return base64.urlsafe_b64encode(json.dumps(login).encode()).decode("ascii")


def _registry_host_of_key(key: str) -> str:
    """``https://index.docker.io/v1/`` is how docker login writes Docker Hub's."""
    host = key.rpartition("://")[2].partition("/")[0].lower()
    return DOCKER_HUB if host in _HUB_HOSTS else host


def _wrong_registry_logins(path: Path, what: str, hint: str) -> ConfigError:
    return ConfigError(f"registry_logins: {path}: {what}", hint=hint)
