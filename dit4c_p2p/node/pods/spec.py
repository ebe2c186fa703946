"""Specification of a pod: pure functions from an instance to its containers, network and volumes.

A pod is up to five containers in one network namespace. ``infra`` holds it and loads the firewall;
``app`` is the user's image; ``listener``, ``auth`` and ``storage`` share the private volume with
the instance's key, which the app has not. ``storage`` is there where the installation has file
servers; ``mounter`` only for moments, see ``storage_spec``. Everything is named after the instance
and carries labels, which are the truth about what exists on a node. Nothing restarts by itself: the
agent decides.

The JSON is the Docker engine's API 1.41, ``POST /containers/create`` and its like.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from dit4c_p2p.messages.pod import FILES_FOLDER, HELPER_UID, POD_FOLDER
from dit4c_p2p.node.config import HelperImages
from dit4c_p2p.node.errors import NoPort, PolicyRefused
from dit4c_p2p.node.network.firewall import EgressPolicy, firewall_ruleset
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.pods import seccomp
from dit4c_p2p.node.pods.storage_spec import (
    app_mount,
    files_volume_name,
    socket_volume_name,
    storage_environment,
    storage_mounts,
)
from dit4c_p2p.node.pods.storage_spec import mounter as mounter_definition
from dit4c_p2p.oci.reference import split_tag

LABEL_INSTANCE = "dit4c.instance"
LABEL_ROLE = "dit4c.role"
LABEL_DATA_DIR = "dit4c.data-dir"
LABEL_APP_PORT = "dit4c.app-port"
# On an app that has a place for its user's files.
LABEL_FILES = "dit4c.files"
# On volumes: the image that takes mounts away from them, whoever removes the pod.
LABEL_STORAGE_IMAGE = "dit4c.storage-image"

RULES_VARIABLE = "DIT4C_RULES"
# What an app is told, to show its user which instance it is and the way back.
TITLE_VARIABLE = "DIT4C_INSTANCE_NAME"
PORTAL_VARIABLE = "DIT4C_PORTAL_URL"
_MAX_TITLE_CHARS = 200
READY_LINE = "ready"
# In a running infra container: what its own script does first.
LOAD_RULES = ("/bin/sh", "-c", f'printf "%s\\n" "${RULES_VARIABLE}" | nft -f -')

# security.md, section 4. NET_RAW never: a raw socket passes the firewall.
APP_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "SETGID",
    "SETUID",
    "KILL",
    "NET_BIND_SERVICE",
)
MIB = 1024**2
# No image that was made for people declares more; each is made at the engine.
_MAX_VOLUMES = 32
_MAX_PORT = 65535
_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
# nft is done in a blink and then a sleep remains.
_INFRA_MEMORY_BYTES = 64 * MIB
# Idle they need about 50 MiB; the rest is for windows of 4 MiB on busy streams.
_HELPER_MEMORY_BYTES = 512 * MIB
_HELPER_PROCESSES = 64
# Whoever keeps a helper busy takes no more of the machine than this.
_HELPER_CPUS = 1.0

Definition = dict[str, Any]


class Role(StrEnum):
    """The containers of a pod."""

    INFRA = "infra"
    APP = "app"
    LISTENER = "listener"
    AUTH = "auth"
    STORAGE = "storage"
    MOUNTER = "mounter"


# Without these two nobody reaches an app; they are made at once, and watched until it is ready.
HELPERS = (Role.LISTENER, Role.AUTH)
ALL_HELPERS = (*HELPERS, Role.STORAGE)


@dataclass(frozen=True)
class NameFile:
    """A file by which names are resolved in a pod: ``source`` on the engine's machine (absolute),
    ``target`` in a container.
    """

    source: str
    target: str


@dataclass(frozen=True)
class AppImage:
    """What an image declares: its id, the lowest TCP port, and where it wants volumes.

    ``volumes_of``: the instance on this node whose volumes a new pod gets a copy of, or empty.
    """

    id: str
    port: int
    volumes: tuple[str, ...]
    volumes_of: str = ""


@dataclass(frozen=True)
class PodSpec:
    """Everything a pod's definitions are made of. ``files``: its user's files are shown.

    ``title`` is what its user calls the instance, ``portal_url`` the portal's canonical URL.
    """

    instance: str
    data_folder: str
    image: AppImage
    helpers: HelperImages
    policy: Policy
    machine_cpus: int
    reach: EgressPolicy
    resolvers: tuple[IPv4Address, ...]
    files: bool = False
    title: str = ""
    portal_url: str = ""


def read_image(inspected: Mapping[str, Any]) -> AppImage:
    """What the engine's answer to ``GET /images/{id}/json`` says of an image.

    Whoever made it has written that, and a registry passes on whatever it is.

    :raises NoPort: it declares no TCP port.
    :raises PolicyRefused: it wants more volumes than anybody lends.
    """
    config = inspected.get("Config") or {}
    ports = []
    for declared in config.get("ExposedPorts") or {}:
        number, _, protocol = str(declared).partition("/")
        is_port = _NUMBER.fullmatch(number) and 0 < int(number) <= _MAX_PORT
        if protocol in ("", "tcp") and is_port:
            ports.append(int(number))
    volumes = config.get("Volumes") or {}
    if len(volumes) > _MAX_VOLUMES:
        raise PolicyRefused(
            f"the image wants {len(volumes)} volumes, and a node makes {_MAX_VOLUMES} at the most"
        )
    if not ports:
        raise NoPort(
            "the image declares no TCP port, so it is not known where its page is",
            hint="add a line like EXPOSE 8888 to its Dockerfile",
        )
    return AppImage(inspected["Id"], min(ports), tuple(sorted(volumes)))


def short_image(image: str) -> str:
    """An image's reference for a sentence: its digest cut off."""
    if split_tag(image) is not None:
        return image
    name, _, digest = image.rpartition("@")
    return f"{name}@{digest[:19]}…" if name else f"{image[:19]}…"


def container_name(instance: str, role: Role) -> str:
    """Return the name of a pod's container at the engine."""
    return f"dit4c-{instance}-{role}"


def network_name(instance: str) -> str:
    """Return the name of a pod's network."""
    return f"dit4c-{instance}"


def pod_volume_name(instance: str) -> str:
    """The name of the volume with the instance's key, which only the helpers have."""
    return f"dit4c-{instance}-pod"


def app_volume_name(instance: str, index: int) -> str:
    """The name of the volume for the ``index``-th path that the app's image declares."""
    return f"{_app_volumes(instance)}{index}"


def is_app_volume(instance: str, name: str) -> bool:
    """Whether a volume of that instance is one that its app writes to."""
    return name.startswith(_app_volumes(instance))


def _app_volumes(instance: str) -> str:
    return f"dit4c-{instance}-app-"


def pod_labels(spec: PodSpec, role: str) -> dict[str, str]:
    """Return the labels of every object of a pod."""
    return {
        LABEL_INSTANCE: spec.instance,
        LABEL_ROLE: role,
        LABEL_DATA_DIR: spec.data_folder,
        LABEL_APP_PORT: str(spec.image.port),
    }


def pod_network(spec: PodSpec, subnet: IPv4Network) -> Definition:
    """The pod's own bridge: ``subnet``, IPv4 only, no name twice."""
    return {
        "Name": network_name(spec.instance),
        "CheckDuplicate": True,
        "Driver": "bridge",
        "EnableIPv6": False,
        "Labels": pod_labels(spec, "network"),
        "IPAM": {"Driver": "default", "Config": [{"Subnet": str(subnet)}]},
    }


def pod_volumes(spec: PodSpec) -> list[Definition]:
    """The pod's private volume first, then one for each path that the app's image declares.

    These would be anonymous volumes otherwise, without labels to find them by.
    """
    names = [pod_volume_name(spec.instance)]
    names += [app_volume_name(spec.instance, index) for index in range(len(spec.image.volumes))]
    if spec.files:
        names += [files_volume_name(spec.instance), socket_volume_name(spec.instance)]
    marked = pod_labels(spec, "volume")
    if spec.files:
        marked[LABEL_STORAGE_IMAGE] = spec.helpers.storage
    return [{"Name": name, "Driver": "local", "Labels": marked} for name in names]


def infra_definition(spec: PodSpec, network_id: str) -> Definition:
    """Define infra, which holds the namespace and loads the rules; only it has NET_ADMIN."""
    host = confined_host_config(memory_bytes=_INFRA_MEMORY_BYTES, processes=16, log_size="1m")
    host |= {
        "CapAdd": ["NET_ADMIN"],
        "NanoCpus": _nano_cpus(spec, _HELPER_CPUS),
        "NetworkMode": network_id,
        "ReadonlyRootfs": True,
    }
    if spec.resolvers:
        host["Dns"] = [str(address) for address in spec.resolvers]
    return {
        "Image": spec.helpers.infra,
        "Hostname": spec.instance,
        "User": "0:0",
        "Env": [f"{RULES_VARIABLE}={firewall_ruleset(spec.reach)}"],
        "Labels": pod_labels(spec, Role.INFRA),
        "HostConfig": host,
    }


def app_definition(
    spec: PodSpec, infra_id: str, name_files: Sequence[NameFile] = (), files_source: str = ""
) -> Definition:
    """The user's image, as that image's user, with what the owner lends and no more.

    :param name_files: of its infra container. The engine shares them in a pod, writable in whatever
        container has a writable root; the app gets them read-only, for its helpers resolve by them.
    :param files_source: where its user's files are to appear on the engine's machine; empty: they
        are not shown.
    """
    policy = spec.policy
    host = confined_host_config(
        memory_bytes=policy.memory_bytes,
        processes=policy.processes,
        log_size="10m",
    )
    host |= {
        "CapAdd": list(APP_CAPABILITIES),
        "NetworkMode": f"container:{infra_id}",
        "NanoCpus": _nano_cpus(spec, policy.cpus),
        # When the machine itself runs out of memory, apps go before its owner's programs.
        "OomScoreAdj": 500,
        "Mounts": [
            {
                "Type": "volume",
                "Source": app_volume_name(spec.instance, index),
                "Target": path,
                # What the image has there is not added to a copy of another volume.
                "VolumeOptions": {"NoCopy": bool(spec.image.volumes_of)},
            }
            for index, path in enumerate(spec.image.volumes)
            if not files_source or path.rstrip("/") != FILES_FOLDER
        ]
        + ([app_mount(files_source)] if files_source else [])
        + [
            {"Type": "bind", "Source": file.source, "Target": file.target, "ReadOnly": True}
            for file in name_files
        ],
    }
    return {
        "Image": spec.image.id,
        "Env": _told(spec),
        "Labels": pod_labels(spec, Role.APP) | ({LABEL_FILES: "1"} if files_source else {}),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def _told(spec: PodSpec) -> list[str]:
    """The app's variables; the title without what no line of text has."""
    title = "".join(one for one in spec.title if one.isprintable())[:_MAX_TITLE_CHARS]
    told = {TITLE_VARIABLE: title, PORTAL_VARIABLE: spec.portal_url}
    return [f"{name}={value}" for name, value in told.items() if value]


def with_quota(definition: Definition, disk_bytes: int) -> Definition:
    """An app's definition with a limit that the engine's storage driver is to set.

    It is about the container's own files, and not about its volumes.
    """
    host = {**definition["HostConfig"], "StorageOpt": {"size": str(disk_bytes)}}
    return {**definition, "HostConfig": host}


def helper_definition(spec: PodSpec, role: Role, infra_id: str) -> Definition:
    """``listener`` or ``auth``: no capability, nothing to write but /tmp and the socket's place."""
    host = confined_host_config(
        memory_bytes=_HELPER_MEMORY_BYTES, processes=_HELPER_PROCESSES, log_size="1m"
    )
    host |= {
        "NetworkMode": f"container:{infra_id}",
        "NanoCpus": _nano_cpus(spec, _HELPER_CPUS),
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=16m,mode=1777"},
        "Mounts": [
            {
                "Type": "volume",
                "Source": pod_volume_name(spec.instance),
                "Target": POD_FOLDER,
                # auth makes its socket there; the listener only connects to it. An empty volume
                # takes over the owner of the folder in auth's image, which is the helpers' user.
                "ReadOnly": role is not Role.AUTH,
                "VolumeOptions": {"NoCopy": role is not Role.AUTH},
            }
        ],
    }
    return {
        "Image": spec.helpers.auth if role is Role.AUTH else spec.helpers.listener,
        "User": f"{HELPER_UID}:{HELPER_UID}",
        "Labels": pod_labels(spec, role),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def storage_definition(spec: PodSpec, infra_id: str, owner: tuple[int, int]) -> Definition:
    """``storage``: no capability, nothing to write but /tmp and the socket's place.

    :param owner: user and group of the app, numbers.
    """
    definition = helper_definition(spec, Role.STORAGE, infra_id)
    definition["Image"] = spec.helpers.storage
    definition["Env"] = storage_environment(owner)
    mounts = storage_mounts(pod_volume_name(spec.instance), spec.instance)
    definition["HostConfig"]["Mounts"] = mounts
    return definition


def mounter(
    instance: str,
    data_folder: str,
    image: str,
    source: str,
    verb: str,
    owner: tuple[int, int] = (0, 0),
) -> Definition:
    """The container that mounts an instance's files, or unmounts them, and ends.

    :param source: where they appear on the engine's machine.
    :param owner: user and group of the app, numbers.
    """
    marked = {
        LABEL_INSTANCE: instance,
        LABEL_ROLE: Role.MOUNTER,
        LABEL_DATA_DIR: data_folder,
    }
    limits = confined_host_config(memory_bytes=_INFRA_MEMORY_BYTES, processes=16, log_size="1m")
    limits["NanoCpus"] = 1_000_000_000
    environment = storage_environment(owner)
    return mounter_definition(image, environment, marked, limits, source, instance, verb)


def pod_files(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar for the root of the pod's volume: the helpers' user's own, mode 0600.

    Uncompressed because the engine would run the container's decompressor as root otherwise.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = (
                len(content),
                0o600,
                HELPER_UID,
                HELPER_UID,
            )
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def filters(data_folder: str, instance: str | None = None) -> str:
    """The engine's ``filters`` parameter for all that is one agent's, or one instance's."""
    wanted = [f"{LABEL_DATA_DIR}={data_folder}"]
    if instance is not None:
        wanted.append(f"{LABEL_INSTANCE}={instance}")
    return json.dumps({"label": wanted})


def _nano_cpus(spec: PodSpec, cpus: float) -> int:
    """As the engine takes it; more than the machine has would be an error."""
    return int(min(cpus, spec.machine_cpus) * 1_000_000_000)


def confined_host_config(*, memory_bytes: int, processes: int, log_size: str) -> Definition:
    """Return the restrictions of all containers of a pod."""
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp.seccomp_profile()}"],
        "Privileged": False,
        "IpcMode": "private",
        "PidMode": "",
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "PidsLimit": processes,
        "Memory": memory_bytes,
        # Memory and swap together: as much as memory alone, so no swap.
        "MemorySwap": memory_bytes,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": log_size, "max-file": "2"}},
    }
