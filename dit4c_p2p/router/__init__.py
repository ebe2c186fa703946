"""The routing server: a map from names to SSH connections, with an HTTP side and an SSH side.

    router = Router(RouterConfig(...))
    await router.start()      # router.http_port, router.ssh_port
    await router.wait()
    await router.stop()

- ``name_table``    which connection holds which name (pure)
- ``access_rules``  who may listen for what and reach whom (pure)
- ``ssh_server``    peers' connections
- ``http_server``   visitors' connections: the first Host decides where the bytes go
- ``splice``        bytes in both directions
- ``error_pages``, ``instance_states``  answers when no app can answer
"""

from dit4c_p2p.router.config import Limits, RouterConfig
from dit4c_p2p.router.router import Router

__all__ = ["Limits", "Router", "RouterConfig"]
