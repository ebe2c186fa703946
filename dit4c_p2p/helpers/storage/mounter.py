"""The mount container: makes the FUSE mount that the storage helper serves, and ends.

It has SYS_ADMIN and ``/dev/fuse``, and neither a network nor the instance's key. The folder that is
mounted at is shared with the pod, so that the app sees the mount. This module uses the standard
library only, for it runs at each start of a pod.
"""

import contextlib
import ctypes
import os
import socket
import sys
import time
from pathlib import Path

from dit4c_p2p.messages.pod import FILES_OWNER_VARIABLE, MOUNT_POINT_VARIABLE, MOUNT_SOCKET

# mount(2) and umount2(2).
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2
_FILE_SYSTEM = "fuse.dit4c"
# The helper's program takes a moment to start.
_CONNECT_S = 20.0
_SERVED_S = 20.0
# Requests that the kernel sends ahead of their use; its own limit is 12, which a long line outruns.
_BACKGROUND = 64
_CONTROL = Path("/tmp/fusectl")

_POINT = os.environ.get(MOUNT_POINT_VARIABLE, "")

_libc = ctypes.CDLL(None, use_errno=True)


def mount_files() -> int:
    """Mount over the plain folder and hand the descriptor over; returns the exit status."""
    unmount_files()
    # Connected first: the mount is made when there is somebody to serve it.
    with _connected_for_mounter() as helper:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={descriptor},rootmode=40000,default_permissions,{_whose_for_mounter()}"
        _mount_for_mounter("dit4c", _POINT, _FILE_SYSTEM, _MS_NOSUID | _MS_NODEV, options)
        socket.send_fds(helper, [b"M"], [descriptor])
        os.close(descriptor)
        helper.settimeout(_SERVED_S)
        if helper.recv(1) != b"S":
            unmount_files()
            print("the storage helper does not serve the mount", file=sys.stderr)
            return 1
    _raise_background_for_mounter()
    return 0


def unmount_files() -> int:
    """Take every mount off the folder, whatever state it is in; returns the exit status."""
    while _mounts_for_mounter():
        if _libc.umount2(_POINT.encode(), _MNT_DETACH):
            number = ctypes.get_errno()
            print(f"{_POINT} can't be unmounted: {os.strerror(number)}", file=sys.stderr)
            return 1
    return 0


def _whose_for_mounter() -> str:
    """Mount options that say who may come in: the app's own user alone, unless that is root.

    So nobody else on the machine waits for a file server or walks through a person's files, the
    engine included when it measures or removes volumes.
    """
    user, _, group = os.environ[FILES_OWNER_VARIABLE].partition(":")
    everybody = ",allow_other" if int(user) == 0 else ""
    return f"user_id={int(user)},group_id={int(group)}{everybody}"


def _mounts_for_mounter() -> list[str]:
    """The device numbers of this program's file systems that are mounted at the folder."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # proc(5): ID, parent, device, root, mount point, options, …, "-", type, source, …
        fields, _, kind = line.partition(" - ")
        parts = fields.split()
        if parts[4] == _POINT and kind.split()[0] == _FILE_SYSTEM:
            found.append(parts[2])
    return found


def _connected_for_mounter() -> socket.socket:
    end = time.monotonic() + _CONNECT_S
    while True:
        helper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            helper.connect(MOUNT_SOCKET)
        except OSError as error:
            helper.close()
            if time.monotonic() > end:
                raise SystemExit(f"the storage helper does not listen: {error}") from None
            time.sleep(0.02)
        else:
            return helper


def _mount_for_mounter(source: str, target: str, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise SystemExit(f"{kind} can't be mounted at {target}: {os.strerror(number)}")


def _raise_background_for_mounter() -> None:
    """Let the kernel send more requests ahead; a mount works without."""
    try:
        _CONTROL.mkdir(exist_ok=True)
        _mount_for_mounter("none", str(_CONTROL), "fusectl", 0, "")
    except (OSError, SystemExit) as error:
        print(f"the kernel sends few requests ahead: {error}", file=sys.stderr)
        return
    for device in _mounts_for_mounter():
        connection = _CONTROL / device.partition(":")[2]
        with contextlib.suppress(OSError):
            (connection / "max_background").write_text(str(_BACKGROUND))
            (connection / "congestion_threshold").write_text(str(_BACKGROUND))
    _libc.umount2(str(_CONTROL).encode(), _MNT_DETACH)
