"""security.md section 4: which system calls the profile names, and which it never does."""

import json
import socket

import pytest

from dit4c_p2p.node.pods.seccomp import seccomp_profile

RULES = json.loads(seccomp_profile())


def allowed(name):
    """The rules that allow a call."""
    return [
        rule
        for rule in RULES["syscalls"]
        if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"
    ]


def test_what_is_not_named_is_refused_and_no_second_architecture_runs():
    assert RULES["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [entry["subArchitectures"] for entry in RULES["archMap"]] == [[], []]


@pytest.mark.parametrize(
    "name",
    [
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "socketcall"),
        *("mount", "umount2", "fsopen", "open_by_handle_at", "pivot_root", "chroot", "unshare"),
        *("setns", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
        *("init_module", "kexec_load", "reboot", "swapon", "syslog", "ioperm", "modify_ldt"),
    ],
)
def test_never(name):
    assert not allowed(name)


@pytest.mark.parametrize("name", ["ptrace", "process_vm_readv", "execve", "futex", "statx"])
def test_always(name):
    (rule,) = allowed(name)
    assert rule["args"] == []
    assert "includes" not in rule


def test_sockets_are_of_four_families():
    families = [rule["args"][0]["value"] for rule in allowed("socket")]
    assert set(families) == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert socket.AF_VSOCK not in families


def test_no_new_namespace():
    (rule,) = allowed("clone")
    (argument,) = rule["args"]
    assert (argument["op"], argument["valueTwo"]) == ("SCMP_CMP_MASKED_EQ", 0)
    assert argument["value"] & 0x10000000, "CLONE_NEWUSER"
