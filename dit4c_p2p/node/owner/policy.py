"""The policy of the machine's owner, as pure functions that are called on the machine itself.

The policy binds whatever a scheduler or a portal asks for.
"""

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv4Network

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.saved_images import split_saved
from dit4c_p2p.node.errors import PolicyRefused
from dit4c_p2p.oci.reference import registry_of, split_image

GIB = 1024**3


@dataclass(frozen=True)
class Policy:
    """The owner's policy. Memory and disk in bytes; ``cpus`` may be a fraction.

    ``disk_bytes_per_pod``: what an app may write, None for any amount.
    ``internet``: whether pods may reach public addresses, except those in ``refused``.
    ``images``: digests and references that may run, empty for any. ``registries``: where they may
    be fetched from (:func:`~dit4c_p2p.oci.reference.registry_of`), empty for anywhere on the
    public internet. ``local_registries``: those that may be inside the owner's network, beside
    what ``registries`` names; None for any.
    """

    max_pods: int = 8
    memory_bytes_per_pod: int = 2 * GIB
    cpus_per_pod: float = 2.0
    max_processes_per_pod: int = 512
    disk_bytes_per_pod: int | None = None
    internet: bool = True
    refused: frozenset[IPv4Network] = frozenset()
    images: frozenset[str] = frozenset()
    registries: frozenset[str] = frozenset()
    local_registries: frozenset[str] | None = frozenset()


def check_image(policy: Policy, image: str) -> None:
    """Check that ``image`` may run here.

    :raises PolicyRefused: not a digest, or not among those the owner allows, or not from there.
    """
    if split_saved(image):
        # What it is derived from is only known once it is fetched: it is checked there.
        parse_image(image)
        return
    repository, digest = parse_image(image)
    registry = registry_of(repository) if repository else ""
    if registry and policy.registries and registry not in policy.registries:
        raise PolicyRefused(f"the owner of this node does not allow images from {registry}")
    if policy.images and not policy.images & {image, digest}:
        raise PolicyRefused(f"the owner of this node does not allow the image {digest[:19]}…")


def parse_image(image: str) -> tuple[str, str]:
    """Return the repository, empty for an image's id, and the digest.

    :raises PolicyRefused: neither an id nor a reference by digest.
    """
    parts = split_image(image)
    if parts is None:
        raise PolicyRefused(
            f"{image[:80]!r} is not an image digest",
            hint="this node runs images by sha256:… or name@sha256:… only",
        )
    return parts


def check_instance(instance: str) -> None:
    """Check that ``instance`` is an id, because names at the engine contain it.

    :raises PolicyRefused: it is no id.
    """
    try:
        PeerName(Kind.INSTANCE, instance)
    except InvalidName as error:
        raise PolicyRefused(error.one_line()) from None


def check_room(policy: Policy, instance: str, others: Set[str]) -> None:
    """Whether one more pod may run beside ``others`` (ids of instances whose apps may be running).

    :raises PolicyRefused: the owner's number is reached.
    """
    taken = len(others - {instance})
    if taken >= policy.max_pods:
        raise PolicyRefused(
            f"this node is full: its owner lends {policy.max_pods} "
            f"{'place' if policy.max_pods == 1 else 'places'} and {taken} are taken",
            hint="try again when one has become free",
        )
