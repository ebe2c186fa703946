"""A real nginx with a configuration of a test's own."""

import subprocess
import time
from pathlib import Path

from systems.all_in_one import free_ports

_CONFIG = """
{outside}
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {http}
}}
"""


class Nginx:
    """Runs while used as a context.

    :param http: what is in its ``http { }``.
    :param outside: what is beside that, at the top.
    """

    def __init__(self, folder: Path, http: str, outside: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "nginx.conf"
        self._file.write_text(_CONFIG.format(folder=folder, http=http, outside=outside))
        self._log = folder / "nginx.log"

    def __enter__(self) -> "Nginx":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(["nginx", "-c", self._file], stderr=log, stdout=log)
        time.sleep(0.3)
        assert self._process.poll() is None, self._log.read_text()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


__all__ = ["Nginx", "free_ports"]
