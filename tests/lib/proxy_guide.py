"""docs/proxy.md as an admin reads it: real proxies with its own text, and a test's ports and files.

with running("caddy", folder, authority, ports): ...
"""

import os
import re
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lib.certificates import Authority
from lib.paths import ROOT
from systems.nginx import Nginx

from dit4c_p2p.net.trusted_proxies import TrustedProxies, parse_proxy_networks

PAGE = ROOT / "docs" / "proxy.md"
PORTAL, INSTANCES = "portal.example.org", "*.example.net"
BEGIN_S = 20
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
# Debian's nginx.conf begins with it.
_MODULES = "include /etc/nginx/modules-enabled/*.conf;\n"
# Ports of a test's own, and no word with anybody else.
_CADDY = """{{
	admin off
	http_port {redirect}
	https_port {proxy}
	default_bind 127.0.0.1
	skip_install_trust
	grace_period 1s
}}
"""

# Of the proxy, of its plain HTTP, and of what is behind it.
Ports = Mapping[str, int]


def blocks(language: str) -> list[str]:
    """The page's blocks in this language."""
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [body for name, body in found if name == language]


def believed(*, proxy_protocol: bool) -> TrustedProxies:
    """Whom the settings of the page believe."""
    (text,) = blocks("toml")
    if proxy_protocol:
        text = written(text, {"#proxy_protocol": "proxy_protocol"})
    table = tomllib.loads(text)["proxies"]
    return TrustedProxies(
        parse_proxy_networks(table["addresses"]), table.get("proxy_protocol", False)
    )


def written(text: str, changes: Mapping[str, str]) -> str:
    """The page's text with a test's own in the place of the page's, all of which must be there."""
    for old, new in changes.items():
        assert old in text, f"docs/proxy.md has no {old!r} any more"
        text = text.replace(old, new)
    return text


def _certbot(folder: Path, authority: Authority, host: str) -> Path:
    """A certificate where certbot would have it below ``folder``."""
    live = folder / "letsencrypt" / "live" / host.removeprefix("*.")
    live.mkdir(parents=True)
    for name, content in zip(("fullchain.pem", "privkey.pem"), authority.pem(host), strict=True):
        (live / name).write_bytes(content)
    return live


def _nginx(folder: Path, authority: Authority, ports: Ports) -> AbstractContextManager[object]:
    """nginx that ends TLS."""
    for host in (PORTAL, INSTANCES):
        _certbot(folder, authority, host)
    text = written(
        blocks("nginx")[0],
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{ports['proxy']} ssl;",
            "listen [::]:443 ssl;": "",
            "listen 80;": f"listen 127.0.0.1:{ports['redirect']};",
            "listen [::]:80;": "",
            "/etc/letsencrypt/": f"{folder}/letsencrypt/",
            "http://127.0.0.1:8080;": f"http://127.0.0.1:{ports['portal']};",
            "http://127.0.0.1:8081;": f"http://127.0.0.1:{ports['router']};",
        },
    )
    return Nginx(folder, text)


def _nginx_stream(
    folder: Path, authority: Authority, ports: Ports
) -> AbstractContextManager[object]:
    """nginx that passes TLS on."""
    text = written(
        blocks("nginx")[1],
        {
            "listen 443;": f"listen 127.0.0.1:{ports['proxy']};",
            "listen [::]:443;": "",
            "127.0.0.1:8443;": f"127.0.0.1:{ports['portal']};",
            "127.0.0.1:8444;": f"127.0.0.1:{ports['router']};",
        },
    )
    return Nginx(folder, "", outside=_MODULES + text)


@contextmanager
def _caddy(folder: Path, authority: Authority, ports: Ports) -> Iterator[None]:
    """Caddy; with certificates in files, for no authority can be asked for one."""

    def tls(host: str) -> str:
        live = _certbot(folder, authority, host)
        return f"tls {live}/fullchain.pem {live}/privkey.pem"

    (text,) = blocks("caddy")
    text = written(
        text,
        {
            f"{PORTAL} {{\n": f"{PORTAL} {{\n\t{tls(PORTAL)}\n",
            "tls {\n\t\tdns PROVIDER …\n\t}": tls(INSTANCES),
            "127.0.0.1:8080": f"127.0.0.1:{ports['portal']}",
            "127.0.0.1:8081": f"127.0.0.1:{ports['router']}",
        },
    )
    file, log = folder / "Caddyfile", folder / "caddy.log"
    file.write_text(_CADDY.format(**ports) + text)
    homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["caddy", "run", "--config", str(file)],
            stdout=output, stderr=output, env=os.environ | homes,
        )  # fmt: skip
    try:
        yield
    except BaseException:
        print(log.read_text())
        raise
    finally:
        process.terminate()
        process.wait(timeout=10)


# Those of the page, and whether they speak the PROXY protocol to HTTPS behind them.
PROXIES: dict[str, tuple[Callable[..., AbstractContextManager[object]], bool]] = {
    "nginx": (_nginx, False),
    "nginx stream": (_nginx_stream, True),
    "caddy": (_caddy, False),
}


@contextmanager
def running(name: str, folder: Path, authority: Authority, ports: Ports) -> Iterator[None]:
    """One of :data:`PROXIES`, once it accepts connections."""
    folder.mkdir()
    with PROXIES[name][0](folder, authority, ports):
        deadline = time.monotonic() + BEGIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports["proxy"])).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"{name} does not listen"
                time.sleep(0.05)
        yield
