"""The public way in: a map from names to SSH connections, with an HTTP side and an SSH side.

    router = Router(RouterConfig(...))
    await router.start()      # router.http_port, router.ssh_port
    await router.wait()
    await router.stop()

- ``table``   who holds which name (pure)
- ``relay``   who may listen for what and reach whom (pure)
- ``ssh``     peers' connections
- ``http``    visitors' connections: the first Host decides where the bytes go
- ``splice``  bytes both ways
- ``pages``, ``states``   what is said when there is no app to say it
"""

from dit4c_p2p.router.config import Limits, RouterConfig
from dit4c_p2p.router.router import Router

__all__ = ["Limits", "Router", "RouterConfig"]
