"""What we stand beside: nginx and OpenSSH, and the nginx that everything leads to."""

import asyncio
import getpass
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from dit4c_p2p.identity.keys import generate, public_line, write_private
from parts.processes import Processes, free_port, listens, until

NEEDED = {"nginx": "nginx-light", "sshd": "openssh-server", "ssh": "openssh-client"}
DOWNLOAD_BYTES = 100 * 1024 * 1024
CIPHER = "aes128-gcm@openssh.com"

NGINX = """
daemon off; worker_processes auto; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
{user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
  fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  {body}
}}
"""

# The target of the router's rows, reached without an auth helper, and the app of the path's rows.
TARGET = """
  server {{
    listen unix:{folder}/pod/auth.sock proxy_protocol;
    listen unix:{folder}/plain.sock;
    root {folder}/www;
    location = /.dit4c/alive {{ return 200; }}
  }}
  server {{
    listen 127.0.0.1:{app};
    root {folder}/www;
    location = /ws {{
      proxy_pass http://unix:{folder}/echo.sock; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
"""

# Where our auth helper is: between the tunnel and the app, with connections to it kept.
MIDDLE = """
  upstream app {{ server 127.0.0.1:{app}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen unix:{folder}/middle.sock;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
    location = /ws {{
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
"""

# Where our router is, without and with connections kept into the tunnel.
FRONT = """
  upstream {name} {{
    server unix:{folder}/{name}.sock; keepalive 64; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{plain};
    location / {{ proxy_pass http://unix:{folder}/{name}.sock; }}
    location = /ws {{
      proxy_pass http://unix:{folder}/{name}.sock; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
  server {{
    listen 127.0.0.1:{kept};
    location / {{
      proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
    location = /ws {{
      proxy_pass http://{name}; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
"""


@dataclass(frozen=True)
class Contestant:
    """A way to the target: the port where it is reached, and what has to be said there."""

    name: str
    port: int
    host: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, str]:
        """All header fields of a request."""
        return {"Host": self.host, **self.headers}


async def start_nginx(processes: Processes, folder: Path, name: str, body: str) -> None:
    """One nginx with the servers of ``body``."""
    path = folder / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(NGINX.format(folder=folder, name=name, user=user, body=body))
    log = folder / f"{name}.log"
    await processes.start("nginx", "-c", str(path), "-e", str(log), log=log)


async def start_target(processes: Processes, folder: Path) -> int:
    """The nginx that everything leads to; the port of the app."""
    for sub in ("www", "tmp", "pod"):
        (folder / sub).mkdir(mode=0o700)
    (folder / "www" / "1k").write_bytes(os.urandom(512).hex().encode())
    with (folder / "www" / "100m").open("wb") as file:
        for _ in range(DOWNLOAD_BYTES // (1024 * 1024)):
            file.write(os.urandom(1024 * 1024))
    app = free_port()
    await start_nginx(processes, folder, "target", TARGET.format(folder=folder, app=app))
    await until("nginx", lambda: listens(app))
    return app


async def start_tunnel(processes: Processes, folder: Path, app: int) -> None:
    """``sshd`` with two reverse forwards: to the target alone, and to the app by another nginx."""
    await start_nginx(processes, folder, "middle", MIDDLE.format(folder=folder, app=app))
    port = free_port()
    host_key, user_key = generate(), generate()
    write_private(folder / "host_key", host_key)
    write_private(folder / "user_key", user_key)
    (folder / "authorized_keys").write_text(public_line(user_key) + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public_line(host_key)}\n")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n"
        f"PermitRootLogin prohibit-password\nCiphers {CIPHER}\nCompression no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    sshd = shutil.which("sshd") or "sshd"
    await processes.start(
        sshd, "-D", "-e", "-f", str(folder / "sshd_config"), log=folder / "sshd.log"
    )
    await until("sshd", lambda: listens(port))
    options = {
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "ExitOnForwardFailure": "yes",
        "Ciphers": CIPHER,
        "Compression": "no",
    }
    await processes.start(
        *("ssh", "-F", "none", "-N", "-p", str(port), "-i", str(folder / "user_key")),
        *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
        *("-R", f"{folder}/direct.sock:{folder}/plain.sock"),
        *("-R", f"{folder}/through.sock:{folder}/middle.sock"),
        f"{getpass.getuser()}@127.0.0.1",
        log=folder / "ssh.log",
    )

    async def forwarded() -> bool:
        return all((folder / f"{name}.sock").exists() for name in ("direct", "through"))

    await until("ssh -R", forwarded)


async def start_fronts(processes: Processes, folder: Path, name: str) -> list[Contestant]:
    """The nginx in front of one forward (``direct`` or ``through``), both ways."""
    plain, kept = free_port(), free_port()
    body = FRONT.format(folder=folder, name=name, plain=plain, kept=kept)
    await start_nginx(processes, folder, f"front-{name}", body)
    await asyncio.gather(*(until("nginx", lambda p=port: listens(p)) for port in (plain, kept)))
    return [Contestant("OpenSSH + nginx", plain), Contestant("… with keepalive", kept)]
