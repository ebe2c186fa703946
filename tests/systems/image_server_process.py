"""An image server in a process of its own, to be killed and measured."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from fakes.image_portal import ImagePortal
from systems.all_in_one import free_ports
from systems.image_server import RegistryApi

from dit4c_p2p.identity.keys import generate, public_line

_UP_S = 20.0


class ImageServerProcess:
    """``async with ImageServerProcess(folder) as server``; everything is allowed to ``all``.

    :param folder: of the settings and the log.
    :param data: where the images are; left out, below ``folder``.
    """

    def __init__(self, folder: Path, data: Path | None = None, **limits: str) -> None:
        self.folder, self.data = folder, data or folder / "data"
        self.portal = ImagePortal()
        self._limits = limits
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.portal.__aenter__()
        self._write_settings()
        self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.kill()
        await self.portal.__aexit__(*error)

    def start(self) -> None:
        """Start it in the background; :meth:`up` waits."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dit4c_p2p", "imageserver", "run",
                 "--config", str(self.folder / "imageserver.toml")],
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    async def up(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _UP_S
        async with RegistryApi(self.address, "all") as api:
            while True:
                try:
                    assert (await api.ask("GET", "/v2/")).status == 200
                    return
                except OSError:
                    log = (self.folder / "log").read_text()
                    assert time.monotonic() < deadline, log
                    assert self.process is not None and self.process.poll() is None, log

    def most_rss_mib(self) -> float:
        """The most memory that it has had."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def api(self, user: str = "all") -> RegistryApi:
        """A client."""
        return RegistryApi(self.address, user)

    def _write_settings(self) -> None:
        portal = self.portal.info
        key = public_line(generate(), "portal-main")
        self.data.mkdir(parents=True, exist_ok=True)
        self.data.chmod(0o700)
        limits = "\n".join(f'{name} = "{value}"' for name, value in self._limits.items())
        self.portal.publish(key)
        (self.folder / "imageserver.toml").write_text(
            f'kind = "imageserver"\nurl = "http://localhost:{self.port}"\n'
            f'data_folder = "{self.data}"\nlisten = ["{self.address}"]\n'
            f'[portal]\nurl = "{portal.url}"\nkey = "{key}"\nconnect = ["{portal.connect[0]}"]\n'
            f"[limits]\n{limits}\n"
        )
