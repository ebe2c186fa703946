"""The parts of a pod by which its app sees its user's files. Pure.

The app's ``/mnt`` is a volume of the pod, bound with the propagation ``rslave``; the mount
container has the folder above it with ``rshared``, and mounts over it. The engine keeps volumes on
a file system whose mounts are shared, so this needs nothing of the machine. The mount lives as long
as the storage helper: without it, whatever reaches through the mount gets ENOTCONN, deletion
included. Nobody but the app's own user gets through it at all, unless the app runs as root.
"""

from collections.abc import Mapping
from typing import Any

from dit4c_p2p.messages.pod import (
    FILES_FOLDER,
    FILES_OWNER_VARIABLE,
    MOUNT_POINT_VARIABLE,
    MOUNT_SOCKET,
    POD_FOLDER,
)

Definition = dict[str, Any]

_SOCKET_FOLDER = MOUNT_SOCKET.rpartition("/")[0]
_SHARED_FOLDER = "/shared"
_ROOT = (0, 0)


def files_volume_name(instance: str) -> str:
    """The volume that is the app's ``/mnt``, empty but for what is mounted over it."""
    return f"dit4c-{instance}-files"


def socket_volume_name(instance: str) -> str:
    """The volume with the socket by which the mount's descriptor is handed over."""
    return f"dit4c-{instance}-mount"


def app_mount(source: str) -> Definition:
    """``/mnt`` of the app. ``source``: where the files volume is on the engine's machine."""
    return _bind_mount(source, FILES_FOLDER, "rslave")


def storage_mounts(pod_volume: str, instance: str) -> list[Definition]:
    """What the storage helper sees: the instance's key, and the socket's folder."""
    return [
        {
            "Type": "volume",
            "Source": pod_volume,
            "Target": POD_FOLDER,
            "ReadOnly": True,
            "VolumeOptions": {"NoCopy": True},
        },
        # Empty, it takes over the owner of the folder in the image, which is the helpers' user.
        {"Type": "volume", "Source": socket_volume_name(instance), "Target": _SOCKET_FOLDER},
    ]


def storage_environment(owner: tuple[int, int]) -> list[str]:
    """What the storage helper is told beside the pod's files."""
    return [f"{FILES_OWNER_VARIABLE}={owner[0]}:{owner[1]}"]


def mounter(
    image: str,
    environment: list[str],
    labels: Mapping[str, str],
    confined: Definition,
    source: str,
    instance: str,
    verb: str,
) -> Definition:
    """The container that mounts or unmounts, and ends: the one with SYS_ADMIN, and no network.

    :param environment: of :func:`storage_environment`.
    :param confined: what all containers of a pod have in common.
    :param verb: ``mount`` or ``unmount``.
    """
    folder, _, name = source.rpartition("/")
    host = confined | {
        "CapAdd": ["SYS_ADMIN"],
        # The pods' own profile has no mount(2). Debian's and Ubuntu's AppArmor profile neither.
        "SecurityOpt": [
            "no-new-privileges:true",
            "seccomp=unconfined",
            "apparmor=unconfined",
        ],
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=1m,mode=0700"},
        "Devices": [
            {
                "PathOnHost": "/dev/fuse",
                "PathInContainer": "/dev/fuse",
                "CgroupPermissions": "rw",
            }
        ],
        "Mounts": [
            # The folder above: the engine can't look at one that is mounted over.
            _bind_mount(folder, _SHARED_FOLDER, "rshared"),
            {
                "Type": "volume",
                "Source": socket_volume_name(instance),
                "Target": _SOCKET_FOLDER,
                "VolumeOptions": {"NoCopy": True},
            },
        ],
    }
    return {
        "Image": image,
        "User": "0:0",
        "Cmd": [verb],
        "Env": [*environment, f"{MOUNT_POINT_VARIABLE}={_SHARED_FOLDER}/{name}"],
        "Labels": dict(labels),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def owner_of(user: str, passwd: str, group: str) -> tuple[int, int]:
    """The numeric user and group that an image's ``USER`` means.

    :param user: ``name``, ``uid``, either with ``:group`` or ``:gid``, or empty for root.
    :param passwd: the container's ``/etc/passwd``; ``group``: its ``/etc/group``. Either may be
        empty. A name that is in neither is refused by the engine at the start, so that root's
        numbers here harm nobody.
    """
    name, _, group_name = user.partition(":")
    uid, gid = _ROOT
    if name.isdecimal():
        uid = int(name)
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) < 4 or not (fields[2].isdecimal() and fields[3].isdecimal()):
            continue
        if name and name in (fields[0], fields[2]):
            uid, gid = int(fields[2]), int(fields[3])
            break
    if group_name.isdecimal():
        gid = int(group_name)
    elif group_name:
        for line in group.splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[0] == group_name and fields[2].isdecimal():
                gid = int(fields[2])
                break
    return uid, gid


def _bind_mount(source: str, target: str, propagation: str) -> Definition:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "BindOptions": {"Propagation": propagation},
    }
