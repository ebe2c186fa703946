"""A real nginx with a configuration of a test's own."""

import subprocess
import time
from pathlib import Path

from support.system import free_ports

_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  {servers}
}}
"""


class Nginx:
    """Runs while used as a context."""

    def __init__(self, folder: Path, servers: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "nginx.conf"
        self._file.write_text(_CONFIG.format(folder=folder, servers=servers))
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


def tls_server(name: str, port: int, certificate: object, upstream: int) -> str:
    """A ``server`` as docs/proxy.md has it."""
    return f"""
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {name};
    ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};
    client_max_body_size 0;
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }}
  }}
"""


__all__ = ["Nginx", "free_ports", "tls_server"]
