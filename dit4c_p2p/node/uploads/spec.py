"""The definitions of an upload pod's containers, network and volume. Pure.

An upload pod is a pod of its own beside the stopped one: ``infra`` with the firewall, ``upload``
with the instance's key and the network, ``scan`` with the app's files and neither. What it is made
of carries the label :data:`LABEL_UPLOAD_OF` in the place of the pod's, so that the two are never
taken for one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from dit4c_p2p.messages.pod import HELPER_UID, POD_FOLDER
from dit4c_p2p.messages.upload import (
    COPY_FOLDER,
    COPY_MODE,
    FLAT_MODE,
    LAYERS_MODE,
    PUSH_MODE,
    SCAN_FOLDER,
    SCAN_MODE,
    SCANNED_ROOT,
    SCANNED_VOLUMES,
    VOLUMES_VARIABLE,
)
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.spec import Definition, PodSpec

LABEL_UPLOAD_OF = "dit4c.upload-of"
LABEL_SAVE = "dit4c.save"
# Five batches of 16 MiB, three of them compressed as well, and what the program itself needs.
_UPLOAD_MEMORY_BYTES = 512 * pod.MIB
_SCAN_MEMORY_BYTES = 512 * pod.MIB
_PROCESSES = 64
# A file of somebody else's can't be read without the first, nor the mark of a folder that hides
# what was below it without the second.
_SCAN_CAPABILITIES = ("DAC_READ_SEARCH", "SYS_ADMIN")

INFRA, SCAN, PUSH, LAYERS, FLAT = "infra", SCAN_MODE, PUSH_MODE, LAYERS_MODE, FLAT_MODE
COPY = COPY_MODE


@dataclass(frozen=True)
class Scanned:
    """What the scanner reads: the writable layer's folder on the machine, or None where the engine
    has no such folder; and the app's volumes by the place where the app had them."""

    root: str | None
    volumes: Mapping[str, str]


def upload_container_name(instance: str, role: str) -> str:
    """The name of one of an upload pod's containers at the engine."""
    return f"dit4c-{instance}-upload-{role}"


def scan_volume_name(instance: str) -> str:
    """The volume with the socket between scanner and helper."""
    return f"dit4c-{instance}-upload"


def copy_volume_name(instance: str) -> str:
    """The volume with a checkpoint's copy, which only the scanner has."""
    return f"dit4c-{instance}-upload-copy"


def upload_pod_labels(spec: PodSpec, role: str, save: str) -> dict[str, str]:
    """What every object of an upload pod carries."""
    return {
        LABEL_UPLOAD_OF: spec.instance,
        LABEL_SAVE: save,
        pod.LABEL_ROLE: f"upload-{role}",
        pod.LABEL_DATA_DIR: spec.data_folder,
    }


def upload_network_definition(spec: PodSpec, subnet: IPv4Network, save: str) -> Definition:
    """The upload pod's own bridge."""
    made = pod.pod_network(spec, subnet)
    return made | {
        "Name": f"{pod.network_name(spec.instance)}-upload",
        "Labels": upload_pod_labels(spec, "network", save),
    }


def scan_volume_definition(spec: PodSpec, save: str) -> Definition:
    """For the socket; nothing else is in it but an upload's address."""
    return {
        "Name": scan_volume_name(spec.instance),
        "Driver": "local",
        "Labels": upload_pod_labels(spec, "volume", save),
    }


def copy_volume_definition(spec: PodSpec, save: str) -> Definition:
    """For a copy of the app's files, until it is uploaded."""
    return scan_volume_definition(spec, save) | {"Name": copy_volume_name(spec.instance)}


def copier_definition(spec: PodSpec, image: str, scanned: Scanned, save: str) -> Definition:
    """A scanner that first makes a copy; its standard input says that the app is paused."""
    made = scanner_definition(spec, image, scanned, save)
    mounts = [
        *made["HostConfig"]["Mounts"],
        _volume_for_upload_pod(copy_volume_name(spec.instance), COPY_FOLDER),
    ]
    return made | {
        "Cmd": [COPY_MODE],
        "HostConfig": made["HostConfig"] | {"Mounts": mounts},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
    }


def upload_infra_definition(spec: PodSpec, network_id: str, save: str) -> Definition:
    """Holds the namespace, and the same firewall as the app's pod has."""
    return pod.infra_definition(spec, network_id) | {"Labels": upload_pod_labels(spec, INFRA, save)}


def scanner_definition(spec: PodSpec, image: str, scanned: Scanned, save: str) -> Definition:
    """Reads the app's files, which are mounted read-only; no network, no key."""
    host = pod.confined_host_config(
        memory_bytes=_SCAN_MEMORY_BYTES, processes=_PROCESSES, log_size="1m"
    )
    mounts = [_volume_for_upload_pod(scan_volume_name(spec.instance), SCAN_FOLDER)]
    if scanned.root is not None:
        mounts.append(
            {"Type": "bind", "Source": scanned.root, "Target": SCANNED_ROOT, "ReadOnly": True}
        )
    mounts += [
        _volume_for_upload_pod(name, f"{SCANNED_VOLUMES}/{number}", read_only=True)
        for number, name in enumerate(scanned.volumes.values())
    ]
    host |= {
        "CapAdd": list(_SCAN_CAPABILITIES),
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Mounts": mounts,
    }
    return {
        "Image": image,
        "User": "0:0",
        "Cmd": [SCAN_MODE],
        "Env": [f"{VOLUMES_VARIABLE}={json.dumps(list(scanned.volumes))}"],
        "Labels": upload_pod_labels(spec, SCAN, save),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def upload_helper_definition(
    spec: PodSpec, image: str, mode: str, infra_id: str, save: str
) -> Definition:
    """The upload helper: the instance's key, the network, no capability, nothing of the app's."""
    host = pod.confined_host_config(
        memory_bytes=_UPLOAD_MEMORY_BYTES, processes=_PROCESSES, log_size="1m"
    )
    host |= {
        "NetworkMode": f"container:{infra_id}",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=16m,mode=1777"},
        "Mounts": [
            _volume_for_upload_pod(pod.pod_volume_name(spec.instance), POD_FOLDER),
            _volume_for_upload_pod(scan_volume_name(spec.instance), SCAN_FOLDER),
        ],
    }
    reads = mode in (LAYERS, FLAT)
    return {
        "Image": image,
        "User": f"{HELPER_UID}:{HELPER_UID}",
        "Cmd": [mode],
        "Labels": upload_pod_labels(spec, mode, save),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
        "OpenStdin": reads,
        "StdinOnce": reads,
        "AttachStdin": reads,
    }


def unpacked_definition(spec: PodSpec, image: str, save: str) -> Definition:
    """A container that is never started: a committed image's whole file system.

    A commit takes over the labels of the app's container, which must not count here. So it is found
    by its name only.
    """
    emptied = dict.fromkeys((pod.LABEL_INSTANCE, pod.LABEL_DATA_DIR), "")
    return {
        "Image": image,
        "Cmd": [COPY_MODE],
        "NetworkDisabled": True,
        "Labels": upload_pod_labels(spec, COPY, save) | emptied,
    }


def upload_pod_filters(
    data_folder: str, instance: str | None = None, save: str | None = None
) -> str:
    """The engine's ``filters`` for the upload pods of one agent, one instance or one save."""
    wanted = [
        f"{pod.LABEL_DATA_DIR}={data_folder}",
        LABEL_UPLOAD_OF if instance is None else f"{LABEL_UPLOAD_OF}={instance}",
    ]
    if save is not None:
        wanted.append(f"{LABEL_SAVE}={save}")
    return json.dumps({"label": wanted})


def scanned_volumes(instance: str, targets: Sequence[str]) -> dict[str, str]:
    """The app's volumes by the place where the app had them."""
    return {target: pod.app_volume_name(instance, number) for number, target in enumerate(targets)}


def _volume_for_upload_pod(name: str, target: str, *, read_only: bool = False) -> Definition:
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": read_only},
    }
