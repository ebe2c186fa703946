"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, by no cluster.

with Postgresql() as server:
    url = server.create("portal")
"""

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

START_S = 30
# Commits outlive the server, as some tests expect, but not the machine.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
}


def programs() -> Path:
    """Where Debian's newest server programs are."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    if not found:
        raise RuntimeError("the tests marked postgresql need Debian's package postgresql")
    return found[-1].parent


class Postgresql:
    """The server; ``stop`` and ``start`` as often as wanted.

    ``initdb`` and the server refuse to be root: then they are Debian's user ``postgres``.
    """

    def __init__(self) -> None:
        self._bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="dit4c-pg-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        self._names = itertools.count()
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        arguments = ["-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        self._run("initdb", *arguments, "--no-locale", "--no-sync", "--no-instructions")
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Return when it takes connections."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        log = (self.folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.folder, *settings],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                process_group=0,  # it must not hear of a Ctrl-C before the tests have ended
                preexec_fn=_end_with_parent,
                **self._as,
            )
        deadline = time.monotonic() + START_S
        ready = [self._bin / "pg_isready", "-q", "-h", self.folder]
        while subprocess.run(ready, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """As it ends when its machine does: at once, whoever is connected."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(START_S)
            self._server = None

    def create(self, name: str, template: str = "template0") -> str:
        """A new database; its URL."""
        database = f"{name}_{next(self._names)}"
        self.sql(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop(self, url: str) -> None:
        """Away with a database, whoever is connected."""
        self.sql(f'DROP DATABASE IF EXISTS "{name_of(url)}" WITH (FORCE)')

    def url(self, database: str) -> str:
        """The URL of a database, by the Unix socket."""
        return f"postgres://postgres@/{database}?host={self.folder}"

    def sql(self, text: str, database: str = "postgres") -> list[str]:
        """Run statements; a line for each row, its columns separated by ``|``."""
        arguments = ["-h", str(self.folder), "-U", "postgres", "-d", database, "-XAtqc", text]
        return self._run("psql", "-v", "ON_ERROR_STOP=1", *arguments).splitlines()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self._bin / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            **self._as,
        )
        if done.returncode:
            log = (self.folder / "log").read_text().splitlines()[-20:]
            raise RuntimeError("\n".join([f"{program}: {done.stderr}", *log]))
        return done.stdout


def _end_with_parent() -> None:
    """Have the server end with the tests, however they end (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def name_of(url: str) -> str:
    """The database's name in a URL of :meth:`Postgresql.url`."""
    return url.partition("@/")[2].partition("?")[0]
