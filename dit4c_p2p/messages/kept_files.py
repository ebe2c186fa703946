"""How what an instance has left on an earlier machine is named where an image is asked for.

An instance that goes on at another machine leaves its container on the one before, stopped. A new
instance can be started from that: its image is ``kept.dit4c.internal/<instance>/<node>@sha256:…``
(:func:`kept_reference`). The host is no host; only that node knows the reference, and makes an
image of the container. The digest, as every reference has one, is of the two names.
"""

import hashlib

KEPT_REGISTRY = "kept.dit4c.internal"


def kept_reference(instance: str, node: str) -> str:
    """How the container of ``instance`` (an id) on ``node`` (a peer name) is named."""
    repository = f"{KEPT_REGISTRY}/{instance}/{node}"
    return f"{repository}@sha256:{hashlib.sha256(repository.encode()).hexdigest()}"


def split_kept(image: str) -> tuple[str, str] | None:
    """The instance and the node of such a reference; None if it is another image."""
    if not image.startswith(f"{KEPT_REGISTRY}/"):
        return None
    instance, _, node = image.removeprefix(f"{KEPT_REGISTRY}/").partition("@")[0].partition("/")
    return (instance, node) if image == kept_reference(instance, node) else None
