"""A component that ``dit4c up`` runs as a process of its own, and what is to be seen of it.

Its settings are written to a file in its data folder; its log lines become this process's. When it
ends by itself it is started again. It ends with this process, also when that is killed.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from dit4c_p2p.atomic_file import write_whole
from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.observe.metrics import Metrics
from dit4c_p2p.observe.server import Check

_log = logging.getLogger(__name__)

_START_S = 30.0
_STOP_S = 6.0
_LOOK_S = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# One that has run for so long had started well.
_WELL_S = 60.0
_MAX_LINE_BYTES = 128 * 1024
_ASK_S = 2.0
_LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
# Below the router, which has to be quick with little to do: bulk work waits (see nice(2)).
_NICENESS = 10

_libc = ctypes.CDLL(None)

Value = str | int | list[str]


class ChildComponent:
    """One component in a process of its own; :meth:`start`, :meth:`wait`, :meth:`stop`.

    :param kind: such as ``fileserver``.
    :param folder: its data folder.
    :param settings: what its file says, by table; ``""`` is the top.
    :param port: the port of loopback on which it listens once it has started.
    :param observed: whether its health and figures are asked for.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        settings: Mapping[str, Mapping[str, Value]],
        port: int,
        *,
        observed: bool,
    ) -> None:
        self.kind = kind
        self._folder = folder
        self._settings = dict(settings)
        self._port = port
        self._observe_port = free_loopback_port() if observed else 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._last_line = ""
        self._well = False
        self.metrics = _ChildMetrics(kind)

    async def start(self) -> None:
        """Start it; returns once it listens.

        :raises ConfigError: it has ended, or does not listen in time.
        """
        await self._launch()

    async def wait(self) -> None:
        """Start it again whenever it ends; never returns."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            if self._process is not None:
                status = await self._process.wait()
                _log.error("the %s has ended with status %s", self.kind, status)
            if loop.time() - began > _WELL_S:
                backoff.reset()
            await asyncio.sleep(backoff.pause_s())
            began = loop.time()
            try:
                await self._launch()
            except ConfigError as error:
                _log.error("the %s could not be started again: %s", self.kind, error.one_line())

    async def stop(self) -> None:
        """End it, by force if it takes too long."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """One check, for all of its own."""
        return {"process": self._check}

    async def measure(self) -> None:
        """Fetch its figures."""
        self.metrics.keep(await self._ask("/metrics"))

    async def _check(self) -> str:
        found = json.loads(await self._ask("/readyz"))
        checks = found["components"].get(self.kind, {})
        wrong = [f"{name}: {check['text']}" for name, check in checks.items() if check["text"]]
        return "; ".join(wrong)

    async def _ask(self, path: str) -> str:
        url = f"http://{_LOOPBACK}:{self._observe_port}{path}"
        try:
            timeout = aiohttp.ClientTimeout(total=_ASK_S)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                async with session.get(url) as response:
                    return await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DitError(f"the {self.kind} does not answer: {error or 'time is up'}") from None

    # ---- inside

    async def _launch(self) -> None:
        path = self._folder / f"{self.kind}.toml"
        settings = {**self._settings, "log": {"format": "json"}}
        if self._observe_port:
            settings["observe"] = {"listen": f"{_LOOPBACK}:{self._observe_port}"}
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, _child_settings_file(self.kind, settings).encode())
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dit4c_p2p", self.kind, "run", "--config", str(path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            preexec_fn=_prepare_child_process,
        )
        self._reading = asyncio.create_task(self._read(process), name=f"log of the {self.kind}")
        try:
            async with asyncio.timeout(_START_S):
                while not await _child_listens(self._port):
                    if process.returncode is not None:
                        await self._reading
                        reason = self._last_line.removeprefix("dit4c: ")
                        raise ConfigError(f"the {self.kind} could not be started: {reason}")
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            process.kill()
            raise ConfigError(
                f"the {self.kind} does not listen after {_START_S:.0f} s: {self._last_line}"
            ) from None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Log what it writes, line by line, until it ends."""
        stream = process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than any line of ours
                continue
            if not line:
                return
            self._log_line(line.decode(errors="replace").rstrip())

    def _log_line(self, line: str) -> None:
        try:
            said = json.loads(line)
            level = logging.getLevelNamesMapping()[said["level"].upper()]
            logger, text = logging.getLogger(said["logger"]), str(said["message"])
            if "error" in said:
                text = f"{text}\n{said['error']}"
        except (ValueError, KeyError, TypeError, AttributeError):
            level, logger, text = logging.WARNING, _log, line
        self._last_line = text
        logger.log(level, "%s", text)


def free_loopback_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def _child_listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def _prepare_child_process() -> None:
    """Called in the new process: it is killed when the thread that started it ends, and nice."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Here and not by start_new_session, which uvloop does only after this function.
    os.setsid()
    os.nice(_NICENESS)
    # Where the kernel shares processors by sessions, it is the session's niceness (sched(7)).
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


def _child_settings_file(kind: str, tables: Mapping[str, Mapping[str, Value]]) -> str:
    """A settings file; strings and lists of JSON are those of TOML."""
    lines = [f"kind = {json.dumps(kind)}"]
    for name in sorted(tables):
        if name:
            lines.append(f"\n[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in tables[name].items()]
    return "\n".join(lines) + "\n"


class _ChildMetrics(Metrics):
    """The figures that were fetched last."""

    def __init__(self, kind: str) -> None:
        self.component = kind
        self.registry = CollectorRegistry()
        self._families: list[Metric] = []
        self.registry.register(_KeptChildMetrics(self))

    def keep(self, text: str) -> None:
        """Take what ``/metrics`` has answered; the process's own figures are left out."""
        families = []
        for family in text_string_to_metric_families(text):
            samples = [
                sample._replace(
                    labels={name: of for name, of in sample.labels.items() if name != "component"}
                )
                for sample in family.samples
                if "component" in sample.labels
            ]
            if samples:
                family.samples = samples
                families.append(family)
        self._families = families

    @property
    def families(self) -> list[Metric]:
        """What was kept."""
        return self._families


class _KeptChildMetrics(Collector):
    def __init__(self, metrics: _ChildMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Called by the exposition."""
        yield from self._metrics.families
