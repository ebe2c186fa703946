"""The address of this machine's container engine."""

import os

# Where one is that was installed as usual.
USUAL = "unix:///var/run/docker.sock"


def engine_address() -> str:
    """That of this user's environment (``DOCKER_HOST``, as for Docker's command), or the usual."""
    return os.environ.get("DOCKER_HOST") or USUAL
