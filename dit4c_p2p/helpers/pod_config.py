"""Configuration of a pod's helpers, written by the node agent and read once at their start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.identity.keys import check_key_acceptable
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.pod import POD_FOLDER, PodConfig

FOLDER_VARIABLE = "DIT4C_POD_FOLDER"


@dataclass(frozen=True)
class HelperPod:
    """The pod as its helpers see it; ``name`` is the instance's."""

    folder: Path
    config: PodConfig
    name: PeerName
    key: asyncssh.SSHKey

    @property
    def auth_socket(self) -> Path:
        """Where the auth helper listens and the listener connects."""
        return self.folder / "auth.sock"

    @property
    def news_socket(self) -> Path:
        """Where the auth helper takes news of ended access, and the listener brings it."""
        return self.folder / "news.sock"


def load_pod_config(environ: Mapping[str, str] = os.environ) -> HelperPod:
    """Read ``config.json`` and ``key`` of :data:`POD_FOLDER`, or of ``$DIT4C_POD_FOLDER``.

    :raises ConfigError: either is missing or not what it must be.
    """
    folder = Path(environ.get(FOLDER_VARIABLE) or POD_FOLDER)
    try:
        config = decode((folder / "config.json").read_bytes(), PodConfig)
        name = PeerName.parse(config.instance)
        key = check_key_acceptable(asyncssh.read_private_key(folder / "key"))
    except (OSError, DitError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise ConfigError(
            f"{folder} does not hold this pod's config.json and key: {error}",
            hint="the node agent puts them there before it starts the helpers",
        ) from None
    if name.kind is not Kind.INSTANCE or not 0 < config.app_port < 65536:
        raise ConfigError(f"{folder}/config.json is not an instance's")
    return HelperPod(folder, config, name, key)
