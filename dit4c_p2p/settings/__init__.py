"""Settings of each component: a TOML file, overridden by environment variables.

    settings = read(NodeSettings, "node", Path("/etc/dit4c/node.toml"), os.environ)

- ``value``     what a value is; ``values`` the kinds there are, with their text forms
- ``declare``   how a setting is declared
- ``read``      file and environment → settings; what is wrong, a line for each
- ``example``   the commented example files in ``docs/config``
- ``portal``, ``scheduler``, ``router``, ``node``, ``fileserver``, ``imageserver``, ``shared``
  the settings
"""

from pathlib import Path

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.settings.declare import Settings
from dit4c_p2p.settings.fileserver import FileServerSettings
from dit4c_p2p.settings.imageserver import ImageServerSettings
from dit4c_p2p.settings.node import NodeSettings
from dit4c_p2p.settings.portal import PortalSettings
from dit4c_p2p.settings.read import KIND, InvalidSettings, load_settings_file, read
from dit4c_p2p.settings.router import RouterSettings
from dit4c_p2p.settings.scheduler import SchedulerSettings
from dit4c_p2p.settings.shared import PeerSettings

KINDS: dict[str, type[Settings]] = {
    "portal": PortalSettings,
    "scheduler": SchedulerSettings,
    "router": RouterSettings,
    "node": NodeSettings,
    "fileserver": FileServerSettings,
    "imageserver": ImageServerSettings,
}

__all__ = [
    "KINDS",
    "FileServerSettings",
    "ImageServerSettings",
    "InvalidSettings",
    "NodeSettings",
    "PeerSettings",
    "PortalSettings",
    "RouterSettings",
    "SchedulerSettings",
    "Settings",
    "kind_of_settings_file",
    "read",
]


def kind_of_settings_file(file: Path) -> str:
    """Return the kind of component that a settings file is for.

    :raises ConfigError: the file has no ``kind``, or can't be read.
    """
    kind = load_settings_file(file).get(KIND)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(
            f"{file} does not say which component it is for",
            hint=f'put kind = "node" at its top (or {", ".join(k for k in KINDS if k != "node")})',
        )
    return kind
