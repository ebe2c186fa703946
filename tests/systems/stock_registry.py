"""nginx before a stock registry, configured as docs/image-server.md has it."""

import hashlib
import re
from collections.abc import Sequence

from lib.paths import ROOT

_TOKEN = "only a test's service token"
# What the portal knows of it.
TOKEN_SHA256 = hashlib.sha256(_TOKEN.encode()).hexdigest()


def nginx_of_the_guide(listen: Sequence[str], portal_port: int, registry: str) -> str:
    """The guide's configuration, with a test's addresses and without TLS.

    :param listen: where nginx listens.
    :param registry: where the registry does.
    """
    page = (ROOT / "docs" / "image-server.md").read_text()
    (text,) = re.findall(r"```nginx\n(.*?)```", page, re.S)
    for what, instead in {
        "listen 443 ssl;": " ".join(f"listen {one};" for one in listen),
        "ssl_certificate /etc/dit4c/tls/certificate.pem;": "",
        "ssl_certificate_key /etc/dit4c/tls/key.pem;": "",
        "proxy_pass https://portal.example.org;": f"proxy_pass http://127.0.0.1:{portal_port};",
        "Host portal.example.org": f"Host localhost:{portal_port}",
        "THE-SERVICE-TOKEN": _TOKEN,
        "127.0.0.1:5000": registry,
    }.items():
        assert what in text, what
        text = text.replace(what, instead)
    return text
