"""What the engine says → what a person is told."""

import pytest

from dit4c_p2p.messages.node import PodState
from dit4c_p2p.node.pods.spec import Role
from dit4c_p2p.node.pods.state_dir import AppRun
from dit4c_p2p.node.pods.status import clean_log, memory_text, pod_status_of, read_container

GIB = 1024**3


NOON = "2025-01-01T12:00:00.123456789Z"


def container(*, running=False, started=True, code=0, oom=False, ended=NOON, began=NOON):
    return read_container(
        {
            "Id": "x",
            "Image": "sha256:x",
            "HostConfig": {"Memory": 2 * GIB},
            "State": {
                "Running": running,
                "StartedAt": began if started else "0001-01-01T00:00:00Z",
                "FinishedAt": ended if started else "0001-01-01T00:00:00Z",
                "ExitCode": code,
                "OOMKilled": oom,
                "Error": "",
            },
        }
    )


def pod_with(app, infra=True):
    return {Role.APP: app, Role.INFRA: container(running=infra)}


@pytest.mark.parametrize(
    ("app", "infra", "reason"),
    [
        (container(code=3), True, "the app ended by itself with exit code 3"),
        (container(code=0), True, "the app ended by itself with exit code 0"),
        (
            container(code=137, oom=True),
            True,
            "the app was ended: it used more than its 2 GiB of memory",
        ),
        (container(code=137), True, "the app was ended by force (SIGKILL)"),
        # The engine does not forget that a program in it was ended for memory, long before.
        (container(code=0, oom=True), True, "the app ended by itself with exit code 0"),
        (container(code=139), True, "the app crashed (SIGSEGV)"),
        (
            container(code=1, ended="2025-01-01T11:59:00Z"),
            False,
            "the app ended by itself with exit code 1",
        ),
        (
            container(code=137, oom=True),
            False,
            "the app was ended: it used more than its 2 GiB of memory",
        ),
    ],
)
def test_reasons(app, infra, reason):
    status = pod_status_of("abc", pod_with(app, infra))
    assert (status.state, status.reason, status.exit_code) == (
        PodState.EXITED,
        reason,
        app.exit_code,
    )


def test_what_the_agent_did_itself_comes_first():
    status = pod_status_of("abc", pod_with(container(code=143)), note="it was stopped as asked")
    assert status.reason == "it was stopped as asked"


def test_states():
    assert pod_status_of("abc", {}).state is PodState.PARTIAL
    assert pod_status_of("abc", pod_with(container(started=False))).state is PodState.PARTIAL
    assert pod_status_of("abc", pod_with(container(running=True))).state is PodState.RUNNING
    gone = pod_status_of("abc", {}, published=True)
    assert (gone.state, gone.reason) == (
        PodState.EXITED,
        "the app's container was removed by somebody on its node",
    )


def test_what_goes_down_with_its_machine_is_interrupted_if_it_was_ever_reachable():
    for app in (container(code=255), container(code=0, ended="2025-01-01T12:00:09Z")):
        down = pod_status_of("abc", pod_with(app, infra=False), published=True)
        assert (down.state, down.exit_code) == (PodState.INTERRUPTED, None)
        assert "went down" in down.reason
        assert pod_status_of("abc", pod_with(app, infra=False)).state is PodState.PARTIAL
        stopped = pod_status_of("abc", pod_with(app, infra=False), published=True, note="stopped")
        assert (stopped.state, stopped.reason) == (PodState.EXITED, "stopped")
    alone = pod_status_of("abc", {Role.APP: container(code=1)}, published=True)
    assert alone.state is PodState.INTERRUPTED


def test_for_a_moment_it_is_not_clear_how_an_app_ended():
    at = read_seconds(NOON)
    early = pod_status_of("abc", pod_with(container(code=143)), published=True, now=at + 0.5)
    assert early.state is PodState.PARTIAL
    late = pod_status_of("abc", pod_with(container(code=143)), published=True, now=at + 2)
    assert late.state is PodState.EXITED


def test_an_app_that_has_not_started_in_the_wanted_run():
    run = AppRun(2, NOON)
    waits = pod_status_of("abc", pod_with(container(code=3)), published=True, run=run)
    assert (waits.state, waits.run) == (PodState.INTERRUPTED, 2)
    ran = container(code=3, began="2025-01-01T12:30:00Z")
    assert pod_status_of("abc", pod_with(ran), published=True, run=run).state is PodState.EXITED


def read_seconds(text):
    return container(ended=text).finished


def test_memory_in_words():
    assert [memory_text(n) for n in (2 * GIB, 3 * GIB // 2, 96 * 1024**2, 5)] == [
        "2 GiB",
        "1.5 GiB",
        "96 MiB",
        "5 bytes",
    ]


def test_a_log_is_shown_without_colours_and_control_characters():
    assert (
        clean_log(b"\x1b[1;31mred\x1b[0m\r\nnext\tline\x00\x07\n\xff") == "red\nnext\tline\n\ufffd"
    )
