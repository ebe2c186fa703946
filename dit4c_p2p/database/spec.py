"""The location of a component's database, as a setting gives it.

| as written                                     | is                                            |
|------------------------------------------------|-----------------------------------------------|
| ``/var/lib/dit4c/portal.sqlite3``              | a SQLite file                                 |
| ``sqlite:///var/lib/dit4c/portal.sqlite3``     | the same                                      |
| ``postgres://user:password@host:5432/name``    | PostgreSQL by TCP                             |
| ``postgres:///name?host=/run/postgresql``      | PostgreSQL by its Unix socket                 |

What follows ``postgres:`` is what libpq takes ("Connection URIs" in PostgreSQL's manual): a
password may as well be in ``~/.pgpass``. A server on another machine has to show a certificate for
its name unless ``sslmode`` in the URL says otherwise. Each component has a database of its own.
"""

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from dit4c_p2p.errors import ConfigError

_POSTGRESQL = ("postgres", "postgresql")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HINT = "write it as a path, sqlite:///path, or postgres://user@host/name"


@dataclass(frozen=True)
class DatabaseSpec:
    """One component's database.

    ``app`` names the component (``portal``), the connection and Tortoise's app. ``location`` is a
    path or a URL as in the table above. The two modules are found by convention unless given.
    ``trace`` is a file or a folder of the component's that has something in it only once the
    database has been in use: beside it, a SQLite file that is not there has been lost.

    :raises ConfigError: the location is neither.
    """

    app: str
    location: Path | str = field(repr=False)  # it may hold a password
    models_module: str = ""
    migrations_module: str = ""
    trace: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.location, str) or "://" not in self.location:
            return
        scheme = self.location.partition("://")[0]
        parts = self._parts()
        if scheme == "sqlite":
            if parts.netloc or not parts.path.strip("/"):
                raise self._wrong("it names no file")
        elif scheme not in _POSTGRESQL:
            raise self._wrong(f"there is no {scheme} here")
        elif not parts.path.strip("/") and "dbname" not in parse_qs(parts.query):
            raise self._wrong("it names no database")
        elif "search_path" in parse_qs(parts.query):
            raise self._wrong("each component has a database of its own, not a schema")
        elif importlib.util.find_spec("asyncpg") is None:
            raise ConfigError(
                "this installation can't speak to PostgreSQL",
                hint=f"install what it needs: {sys.prefix}/bin/pip install "
                "'<the source of dit4c-p2p>[postgresql]', as docs/install.md has it",
            )

    @property
    def models(self) -> str:
        """The module with the Tortoise models."""
        return self.models_module or f"dit4c_p2p.{self.app}.models"

    @property
    def migrations(self) -> str:
        """The package with the migrations."""
        return self.migrations_module or f"dit4c_p2p.{self.app}.migrations"

    @property
    def is_postgresql(self) -> bool:
        """Whether it is on a PostgreSQL server, rather than in a SQLite file."""
        return isinstance(self.location, str) and self.location.startswith(
            tuple(f"{scheme}://" for scheme in _POSTGRESQL)
        )

    @property
    def path(self) -> Path:
        """The SQLite file.

        :raises ValueError: it is not in a file.
        """
        if self.is_postgresql:
            raise ValueError(f"the {self.app}'s database is not a file")
        if isinstance(self.location, str) and "://" in self.location:
            return Path("/" + unquote(self._parts().path).lstrip("/"))
        return Path(self.location)

    @property
    def url(self) -> str:
        """What PostgreSQL's client is given; may hold a password.

        :raises ValueError: it is a file.
        """
        if not self.is_postgresql or not isinstance(self.location, str):
            raise ValueError(f"the {self.app}'s database is a file")
        return self.location

    @property
    def names_user(self) -> bool:
        """Whether the URL says as whom to connect."""
        parts = self._parts()
        return bool(parts.username) or "user" in parse_qs(parts.query)

    @property
    def needs_certificate(self) -> bool:
        """Whether the server is on another machine, and the URL says nothing about TLS."""
        parts = self._parts()
        query = parse_qs(parts.query)
        host = unquote(query["host"][0]) if "host" in query else parts.hostname or ""
        is_local = not host or host.startswith("/") or host in _LOOPBACK
        return not is_local and "sslmode" not in query

    def served_from(self) -> ConfigError:
        """What to say to a second process that would serve from it."""
        return ConfigError(
            f"another process serves from {self} already",
            hint="one at a time can: stop the other one first, or give this one its own database",
        )

    def __str__(self) -> str:
        """For people: ``the portal's database postgres://host/portal``, without a password."""
        if not self.is_postgresql:
            return f"the {self.app}'s database {self.path}"
        parts = self._parts()
        query = f"?{parts.query}" if parts.query and "password" not in parts.query else ""
        place = f"{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
        return f"the {self.app}'s database postgres://{place}"

    def _parts(self) -> SplitResult:
        try:
            return urlsplit(str(self.location))
        except ValueError:
            raise self._wrong("it is no URL") from None

    def _wrong(self, why: str) -> ConfigError:
        return ConfigError(f"where the {self.app}'s database is can't be right: {why}", hint=_HINT)
