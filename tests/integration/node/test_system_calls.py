"""security.md section 4: what a program in an app's container may ask of the kernel, on the engine.

Each probe is a program of a few machine instructions that makes one call and ends with its errno.
"""

import errno
import platform
import struct

import pytest
from systems.pods import app_of, docker, run_start

pytestmark = [
    pytest.mark.engine,
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probes are for x86-64"),
]

AF_UNIX, AF_INET, AF_PACKET, AF_INET6, AF_ALG, AF_VSOCK = 1, 2, 17, 10, 38, 40
SOCKET, PTRACE, IO_URING_SETUP, UNSHARE, MOUNT, CLONE3, GETPID = 41, 101, 425, 272, 165, 435, 39
X32 = 0x40000000
SYSCALL, INT_0X80 = b"\x0f\x05", b"\xcd\x80"
# A shell's exit code of a program that SIGSYS has ended.
KILLED = 128 + 31
BASE = 0x400000


def program(number: int, first: int = 0, second: int = 0, *, by: bytes = SYSCALL) -> bytes:
    """An ELF file: one call; exit(-result) if that is an errno, else exit(0)."""
    code = (
        b"\xbf" + struct.pack("<I", first)  # mov edi, first
        + b"\xbb" + struct.pack("<I", first)  # mov ebx, first (by int 0x80)
        + b"\xbe" + struct.pack("<I", second)  # mov esi, second
        + b"\x31\xd2"  # xor edx, edx
        + b"\xb8" + struct.pack("<I", number)  # mov eax, number
        + by
        + b"\x31\xff"  # xor edi, edi
        + b"\x85\xc0"  # test eax, eax
        + b"\x79\x04"  # jns over the next two
        + b"\xf7\xd8\x89\xc7"  # neg eax; mov edi, eax
        + b"\xb8\x3c\x00\x00\x00" + SYSCALL  # exit(edi)
    )  # fmt: skip
    size = 64 + 56 + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return header + segment + code


PROBES = {
    "unix": (program(SOCKET, AF_UNIX, 1), 0),
    "inet": (program(SOCKET, AF_INET, 1), 0),
    "inet6": (program(SOCKET, AF_INET6, 1), 0),
    "vsock": (program(SOCKET, AF_VSOCK, 1), errno.EPERM),
    "alg": (program(SOCKET, AF_ALG, 5), errno.EPERM),
    "packet": (program(SOCKET, AF_PACKET, 3), errno.EPERM),
    "io_uring": (program(IO_URING_SETUP, 1), errno.ENOSYS),
    "clone3": (program(CLONE3), errno.ENOSYS),
    "user namespace": (program(UNSHARE, 0x10000000), errno.EPERM),
    "mount": (program(MOUNT), errno.EPERM),
    "traceme": (program(PTRACE, 0), 0),
    "32-bit": (program(20, by=INT_0X80), KILLED),
    "32-bit socketcall": (program(102, 1, by=INT_0X80), KILLED),
    "x32": (program(X32 | GETPID), KILLED),
    "x32 vsock": (program(X32 | SOCKET, AF_VSOCK, 1), KILLED),
}


async def test_row_our_own_seccomp_profile(pods, images, instance, tmp_path):
    await run_start(pods, instance, images.app)
    app = app_of(instance)
    found = {}
    for name, (content, _) in PROBES.items():
        probe = tmp_path / name.replace(" ", "-")
        probe.write_bytes(content)
        probe.chmod(0o755)
        docker("cp", str(probe), f"{app}:/probe")
        said = docker("exec", app, "sh", "-c", "/probe; echo ended $?", check=False)
        found[name] = int(said.split("ended ")[1].split()[0])
    assert found == {name: code for name, (_, code) in PROBES.items()}


async def test_an_app_can_not_change_what_its_helpers_resolve(pods, images, instance):
    """The engine shares these files in a pod, and an app may run as root."""
    await run_start(pods, instance, images.app)
    app, helper = app_of(instance), f"dit4c-{instance}-auth"
    for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        content = docker("exec", app, "cat", path)
        assert content
        assert content == docker("exec", helper, "cat", path)
        tried = f"echo 192.0.2.1 portal >> {path}; rm {path}; mkdir /x; touch {path}"
        said = docker("exec", app, "sh", "-c", tried, check=False)
        assert "Read-only file system" in said
        assert docker("exec", helper, "cat", path) == content
    assert instance in docker("exec", app, "cat", "/etc/hosts")
