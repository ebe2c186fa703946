"""What the engine says of a pod's containers → what a person is told. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.node.pod import Role

# Colours and cursor movements (ECMA-48), and every other control character but tab and line end.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
# Never started: the engine reports this instead of a time.
_NEVER = "0001-01-01T00:00:00Z"
_SIGNALS = {129: "SIGHUP", 130: "SIGINT", 134: "SIGABRT", 136: "SIGFPE", 139: "SIGSEGV"}


@dataclass(frozen=True)
class ContainerState:
    """One container, from ``GET /containers/{id}/json``. ``memory_bytes`` is its limit."""

    id: str
    running: bool
    started: bool
    exit_code: int
    out_of_memory: bool
    error: str
    memory_bytes: int
    image: str

    @property
    def ended(self) -> bool:
        """It ran once and does not any more."""
        return self.started and not self.running


Containers = Mapping[Role, ContainerState]


def read_container(inspected: Mapping[str, Any]) -> ContainerState:
    """The part of the engine's answer that matters here."""
    state = inspected["State"]
    return ContainerState(
        id=inspected["Id"],
        running=bool(state["Running"]) and state.get("Status") != "removing",
        started=state.get("StartedAt", _NEVER) not in ("", _NEVER),
        exit_code=int(state.get("ExitCode", 0)),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error", "")),
        memory_bytes=int(inspected.get("HostConfig", {}).get("Memory") or 0),
        image=str(inspected.get("Image", "")),
    )


def status_of(
    instance: str,
    containers: Containers,
    *,
    note: str = "",
    published: bool = False,
    log_tail: str = "",
) -> PodStatus:
    """A pod's status.

    :param note: why the agent itself stopped it, if it did.
    :param published: whether the instance was ever reachable: an app that is missing then was not
        "never made" but taken away.
    """
    app = containers.get(Role.APP)
    if app is None and published:
        reason = note or "the app's container was removed by somebody on its node"
        return PodStatus(instance=instance, state=PodState.EXITED, reason=reason)
    if app is None or not app.started:
        return PodStatus(instance=instance, state=PodState.PARTIAL)
    if app.running:
        return PodStatus(instance=instance, state=PodState.RUNNING)
    infra = containers.get(Role.INFRA)
    return PodStatus(
        instance=instance,
        state=PodState.EXITED,
        exit_code=app.exit_code,
        reason=note or end_reason(app, infra is not None and infra.running),
        log_tail=log_tail,
    )


def end_reason(app: ContainerState, infra_runs: bool) -> str:
    """A sentence on why an app that nobody asked to stop has ended."""
    if app.out_of_memory:
        return f"the app was ended: it used more than its {memory_text(app.memory_bytes)} of memory"
    if not infra_runs:
        return "the app was ended together with its pod: the machine or its engine was restarted"
    if app.exit_code == 137:
        return "the app was ended by force (SIGKILL)"
    if app.exit_code == 143:
        return "the app was asked to end from outside (SIGTERM)"
    if app.exit_code in _SIGNALS:
        return f"the app crashed ({_SIGNALS[app.exit_code]})"
    return f"the app ended by itself with exit code {app.exit_code}"


def memory_text(size: int) -> str:
    """``2 GiB``, ``1.5 GiB``, ``96 MiB``."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def clean_log(data: bytes) -> str:
    """What a program wrote, as text for a page: no colours, no control characters."""
    return _ESCAPES.sub("", data.decode(errors="replace").replace("\r\n", "\n"))
