"""The settings of ``dit4c up``: the whole system on one machine.

Each setting is declared here once, with its meaning; ``DIT4C_*`` variables of the environment give
defaults, options of the command line go over them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.errors import ConfigError

# Both are built in seconds once there is Debian; the others take longer, and room.
DEFAULT_TOOLS = ("jupyterlab", "terminal")


def default_data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``$DIT4C_DATA_DIR``, or a folder of the user's own (XDG base directories)."""
    if chosen := environ.get("DIT4C_DATA_DIR"):
        return Path(chosen)
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "dit4c-p2p"


@dataclass(frozen=True)
class AllInOneConfig:
    """What ``dit4c up`` needs to know.

    ``data_folder`` holds keys, databases and logs; it also labels the pods, so that two systems on
    one machine keep apart. Ports are TCP ports on loopback and on the engine's bridge.
    ``ready_file`` appears with mode 0600 once everything answers. ``tools`` names what users can
    start; their images are built if need be. Health and figures of all components are served on
    ``observe_port`` of loopback, None: not at all.
    """

    data_folder: Path
    portal_port: int = 8080
    router_port: int = 8081
    router_ssh_port: int = 8022
    images_port: int = 8082
    files_port: int = 8023
    ready_file: Path | None = None
    tools: tuple[str, ...] = DEFAULT_TOOLS
    observe_port: int | None = None

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for option, port in self.ports.items():
            if not 1 <= port <= 65535:
                raise ConfigError(f"{port} is not a TCP port", hint="choose one of 1 to 65535")
            if port in taken:
                raise ConfigError(
                    f"port {port} is given twice, as {taken[port]} and as {option}",
                    hint="each needs a port of its own",
                )
            taken[port] = option

    @property
    def ports(self) -> dict[str, int]:
        """Every port to be listened on, by its option."""
        ports = {
            "--portal-port": self.portal_port,
            "--router-port": self.router_port,
            "--router-ssh-port": self.router_ssh_port,
            "--images-port": self.images_port,
            "--files-port": self.files_port,
        }
        return ports if self.observe_port is None else ports | {"--observe-port": self.observe_port}

    @property
    def ready_path(self) -> Path:
        """Where the ready file goes."""
        return self.ready_file or self.data_folder / "ready.json"

    @property
    def observe_address(self) -> tuple[str, int] | None:
        """Where health and figures are served."""
        return None if self.observe_port is None else ("127.0.0.1", self.observe_port)

    @property
    def portal_url(self) -> str:
        """The portal's canonical URL."""
        return f"http://localhost:{self.portal_port}"

    @property
    def user_url(self) -> str:
        """The canonical URL of an instance, with ``{id}`` for its id."""
        return f"http://{{id}}.localhost:{self.router_port}/"

    @property
    def images_url(self) -> str:
        """The image server's canonical URL."""
        return f"http://localhost:{self.images_port}"
