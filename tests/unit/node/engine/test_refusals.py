"""The engine's own words, as version 20.10 said them, and whose fault each is."""

import pytest

from dit4c_p2p.messages.node import PASSING_CODES
from dit4c_p2p.node.engine.refusals import RefusalFault, sort_engine_refusal
from dit4c_p2p.node.errors import EngineFull, EngineSaid, as_failure

OCI = (
    "failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
INIT = f'{OCI}error during container init: error mounting "/var/lib/docker/volumes/v/_data" to '

IMAGE = [
    (400, "No command specified", "does not say which program"),
    (400, f'{OCI}exec: "/nothing": stat /nothing: no such file or directory: unknown', "/nothing"),
    (400, f'{OCI}exec: "nothing": executable file not found in $PATH: unknown', "nothing"),
    (400, f'{OCI}exec: "/bin": permission denied: unknown', "can't be executed"),
    (500, "exec /x: exec format error", "kind of machine"),
    (500, "unable to find user nobody-here: no matching entries in passwd file", "nobody-here"),
    (500, "unable to find group g: no matching entries in group file", "user 'g'"),
    (400, f"{OCI}unable to setup user: stat /dev/null: no such file or directory", "user can't"),
    (500, "Cannot mkdir: /bin/busybox is not a directory", "working directory"),
    (500, "lstat /var/lib/docker/overlay2/55/merged/bin/busybox/x: not a directory", "working"),
    (
        500,
        f'{INIT}rootfs at "/proc": "/var/lib/docker/overlay2/20/merged/proc" cannot be mounted '
        "because it is not of type proc: unknown",
        "volume at '/proc'",
    ),
    (400, f'{INIT}rootfs at "/etc/hosts": mount /var/lib/docker: not a directory', "'/etc/hosts'"),
    (
        400,
        "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
        "a volume at a place",
    ),
    (400, "Duplicate mount point: /etc/hosts", "a volume at a place"),
    (400, "something that no version has said yet about /var/lib/docker", "no container can have"),
]
MACHINE = [
    (400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    (400, "Minimum memory limit allowed is 6MB"),
    (400, "Unknown runtime specified nope"),
    (500, "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"),
    (500, "mkdir /var/lib/docker/overlay2/x: read-only file system"),
]
PASSING = [
    (500, "driver failed programming external connectivity on endpoint"),
    (500, "context deadline exceeded"),
    (503, "the daemon is shutting down"),
]


@pytest.mark.parametrize(("status", "words", "part"), IMAGE)
def test_the_image_is_at_fault(status, words, part):
    refusal = sort_engine_refusal(words, status)
    assert refusal.fault is RefusalFault.IMAGE
    assert part in refusal.text
    assert "/var/lib" not in refusal.text
    assert refusal.hint


@pytest.mark.parametrize(("status", "words"), MACHINE)
def test_the_machine_is_at_fault(status, words):
    refusal = sort_engine_refusal(words, status)
    assert refusal.fault is RefusalFault.MACHINE
    assert "/var/lib" not in refusal.text


@pytest.mark.parametrize(("status", "words"), PASSING)
def test_it_may_pass(status, words):
    assert sort_engine_refusal(words, status).fault is RefusalFault.PASSING


def test_what_an_image_calls_its_program_is_shown_with_care():
    words = 'exec: "' + "x\x1b" * 200 + '": executable file not found in $PATH'
    text = sort_engine_refusal(words, 400).text
    assert len(text) < 200
    assert text.isprintable()


def test_what_may_pass_is_told_without_the_engines_words():
    failure = as_failure(EngineSaid("lstat /var/lib/docker/overlay2: stale file handle"))
    assert failure.code in PASSING_CODES
    assert failure.text == _DID_NOT
    full = as_failure(EngineFull("write /var/lib/docker/x: no space left on device"))
    assert "/var/lib" not in full.text
    assert "disk" in full.text


_DID_NOT = "the container engine of the machine it runs on did not do what it was asked"
