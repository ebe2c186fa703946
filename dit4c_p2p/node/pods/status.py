"""Status of a pod in words for its user: pure functions from the engine's containers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.node.pods.spec import LABEL_APP_PORT, LABEL_FILES, RULES_VARIABLE, NameFile, Role
from dit4c_p2p.node.pods.state_dir import AppRun

# Colours and cursor movements (ECMA-48), and every other control character but tab and line end.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
# Never started: the engine reports this instead of a time.
_NEVER = "0001-01-01T00:00:00Z"
# An engine that goes down stops all containers at once; the order in which they end says nothing.
# An app that ended earlier than that before its pod's holder has ended by itself.
TOGETHER_S = 5.0
# For so long after an app's end it may turn out that the whole pod goes down.
UNCLEAR_S = 1.5

INTERRUPTED = "the machine, or its container engine, went down"
FIRST = AppRun()
REMOVED = "the app's container was removed by somebody on its node"
# The engine's word for each, and where it is in a container.
_NAME_FILES = {
    "HostnamePath": "/etc/hostname",
    "HostsPath": "/etc/hosts",
    "ResolvConfPath": "/etc/resolv.conf",
}
# 128 + SIGKILL, as a shell and the engine tell it.
_KILLED = 137
_SIGNALS = {129: "SIGHUP", 130: "SIGINT", 134: "SIGABRT", 136: "SIGFPE", 139: "SIGSEGV"}


@dataclass(frozen=True)
class ContainerState:
    """One container, from ``GET /containers/{id}/json``.

    ``memory_bytes`` is its limit. ``started_at``: when it was started last, as the engine writes
    it, empty for never. ``finished``: when it ended last, in seconds since 1970, 0 for never.
    ``rules`` and ``name_servers`` are those that an infra container was made with. ``app_port``:
    what its label says, 0 for none. ``name_files``: the engine's files by which names are resolved
    in it, which are there once it was started. ``has_files``: it is an app with a place for its
    user's files. ``user``: what its image says of whom it runs as.
    """

    id: str
    running: bool
    started: bool
    exit_code: int
    out_of_memory: bool
    error: str
    memory_bytes: int
    image: str
    started_at: str = ""
    finished: float = 0.0
    rules: str = ""
    name_servers: tuple[IPv4Address, ...] = ()
    app_port: int = 0
    name_files: tuple[NameFile, ...] = ()
    has_files: bool = False
    user: str = ""

    @property
    def ended(self) -> bool:
        """Whether the container has run and has ended."""
        return self.started and not self.running


Containers = Mapping[Role, ContainerState]


def read_container(inspected: Mapping[str, Any]) -> ContainerState:
    """Read a container's state from the engine's answer."""
    state = inspected["State"]
    started_at = state.get("StartedAt", _NEVER)
    exit_code = int(state.get("ExitCode", 0))
    environment = (inspected.get("Config") or {}).get("Env") or []
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    rules = [one for one in environment if one.startswith(f"{RULES_VARIABLE}=")]
    host = inspected.get("HostConfig") or {}
    return ContainerState(
        id=inspected["Id"],
        running=bool(state["Running"]) and state.get("Status") != "removing",
        started=started_at not in ("", _NEVER),
        exit_code=exit_code,
        # The engine keeps saying so once any program in the container was: it was the app itself
        # only if that ended by SIGKILL.
        out_of_memory=bool(state.get("OOMKilled")) and exit_code == _KILLED,
        error=str(state.get("Error", "")),
        memory_bytes=int(host.get("Memory") or 0),
        image=str(inspected.get("Image", "")),
        started_at="" if started_at == _NEVER else started_at,
        finished=_seconds_of_engine_time(state.get("FinishedAt", _NEVER)),
        rules=rules[0].partition("=")[2] if rules else "",
        name_servers=tuple(IPv4Address(text) for text in host.get("Dns") or ()),
        name_files=tuple(
            NameFile(inspected[key], target)
            for key, target in _NAME_FILES.items()
            if inspected.get(key)
        ),
        app_port=int(labels.get(LABEL_APP_PORT) or 0),
        has_files=bool(labels.get(LABEL_FILES)),
        user=str((inspected.get("Config") or {}).get("User") or ""),
    )


def _seconds_of_engine_time(text: str) -> float:
    return 0.0 if text in ("", _NEVER) else datetime.fromisoformat(text).timestamp()


def pod_status_of(
    instance: str,
    containers: Containers,
    *,
    note: str = "",
    notice: str = "",
    published: bool = False,
    run: AppRun = FIRST,
    now: float = math.inf,
    log_tail: str = "",
) -> PodStatus:
    """A pod's status.

    :param note: how it ended, once that is written down: it is to stay down.
    :param notice: what its user is told while it runs.
    :param published: whether the instance was ever reachable: an app that is missing then was not
        "never made" but taken away.
    :param run: the run that is wanted.
    :param now: seconds since 1970.
    """

    def being(state: PodState, reason: str = "", exit_code: int | None = None) -> PodStatus:
        tail = log_tail if state is PodState.EXITED else ""
        return PodStatus(
            instance=instance,
            state=state,
            exit_code=exit_code,
            reason=reason,
            log_tail=tail,
            run=run.number,
        )

    app, infra = containers.get(Role.APP), containers.get(Role.INFRA)
    if app is None and published:
        return being(PodState.EXITED, note or REMOVED)
    if app is not None and app.running:
        return being(PodState.RUNNING, notice)
    if app is not None and note:
        return being(PodState.EXITED, note, app.exit_code)
    begun = app is not None and app.started and app.started_at != run.before
    if app is not None and begun and ended_by_itself(app, infra):
        if infra is not None and infra.running and now - app.finished < UNCLEAR_S:
            return being(PodState.PARTIAL)
        return being(PodState.EXITED, end_reason(app), app.exit_code)
    return being(PodState.INTERRUPTED, INTERRUPTED) if published else being(PodState.PARTIAL)


def ended_by_itself(app: ContainerState, infra: ContainerState | None) -> bool:
    """Whether an app that ended did so on its own, and not together with its whole pod."""
    if app.out_of_memory:
        return True
    if infra is None:
        return False
    return infra.running or app.finished < infra.finished - TOGETHER_S


def end_reason(app: ContainerState) -> str:
    """Return a sentence on why an app ended that nobody asked to stop."""
    if app.out_of_memory:
        return f"the app was ended: it used more than its {memory_text(app.memory_bytes)} of memory"
    if app.exit_code == _KILLED:
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
    """Return a program's output as plain text, without colours and control characters."""
    return _ESCAPES.sub("", data.decode(errors="replace").replace("\r\n", "\n"))
