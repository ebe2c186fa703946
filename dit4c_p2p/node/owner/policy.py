"""The policy of the machine's owner, as pure functions that are called on the machine itself.

The policy binds whatever a scheduler or a portal asks for.
"""

from collections.abc import Set

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.kept_files import split_kept
from dit4c_p2p.messages.saved_images import split_saved
from dit4c_p2p.node.errors import PolicyRefused
from dit4c_p2p.oci.reference import registry_of, split_image
from dit4c_p2p.settings.node import PolicySettings

Policy = PolicySettings


def check_image_by_policy(policy: Policy, image: str) -> None:
    """Check that ``image`` may run here.

    :raises PolicyRefused: not a digest, or not among those the owner allows, or not from there.
    """
    if split_saved(image):
        # What it is derived from is only known once it is fetched: it is checked there.
        parse_image(image)
        return
    repository, digest = parse_image(image)
    if split_kept(image) and not policy.images:
        # A container that has run here.
        return
    registry = registry_of(repository) if repository else ""
    if registry and policy.registries and registry not in policy.registries:
        raise PolicyRefused(f"the owner of this node does not allow images from {registry}")
    if policy.images and {image, digest}.isdisjoint(policy.images):
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


def check_room_by_policy(policy: Policy, instance: str, others: Set[str]) -> None:
    """Whether one more pod may run beside ``others`` (ids of instances whose apps may be running).

    :raises PolicyRefused: the owner's number is reached.
    """
    taken = len(others - {instance})
    if taken >= policy.instances:
        raise PolicyRefused(
            f"this node is full: its owner lends {policy.instances} "
            f"{'place' if policy.instances == 1 else 'places'} and {taken} are taken",
            hint="try again when one has become free",
        )


def paused() -> PolicyRefused:
    """What is said where the owner has paused the machine, see ``owner.pause``."""
    return PolicyRefused(
        "the owner of its machine has paused it, and nothing starts there for now",
        hint="try again later",
    )
