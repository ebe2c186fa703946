"""Read a :class:`Settings` object from a TOML file, overridden by environment variables.

All problems are found in one pass; each is a line that names the setting.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.settings.declare import (
    Section,
    Setting,
    Settings,
    declared_parts,
    environment_variable,
    every_setting,
    settings_with_values,
)
from dit4c_p2p.settings.value import WrongValue, close_word, printable_value, shown_value

S = TypeVar("S", bound=Settings)

KIND = "kind"
_MAX_FILE_BYTES = 1024 * 1024
# Variables of the command line, and those that tests and scripts use among themselves.
_OTHER_VARIABLES = ("DIT4C_TOKEN", "DIT4C_DATA_DIR")

Table = dict[str, Any]


class InvalidSettings(ConfigError):
    """One or more settings are invalid; ``problems`` has a line for each."""

    def __init__(self, file: Path, kind: str, problems: Sequence[str]) -> None:
        more = len(problems) - 1
        also = f"{more} more: dit4c config check {kind} {file}" if more else ""
        super().__init__(f"{file}: {problems[0]}", hint=also)
        self.problems = tuple(problems)


def load_settings_file(file: Path) -> Table:
    """Return the tables of a TOML file.

    :raises ConfigError: the file can't be read or is no TOML.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{file} can't be read: {error.strerror}",
            hint="'dit4c config example KIND' prints one to begin with"
            if isinstance(error, FileNotFoundError)
            else "run this as the user who may",
        ) from None
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{file} is over {_MAX_FILE_BYTES // 1024} KiB", hint="is it the file?")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}", hint="see https://toml.io") from None


def read(settings: type[S], kind: str, file: Path, environ: Mapping[str, str]) -> S:
    """Return the settings in ``file``, overridden by those of ``environ``.

    :param kind: the component's; a ``kind`` in the file has to agree.
    :raises ConfigError: the file can't be read or is no TOML.
    :raises InvalidSettings: a setting is invalid.
    """
    table = load_settings_file(file)
    reader = _SettingsReader()
    said = table.pop(KIND, kind)
    if said != kind:
        reader.say(KIND, WrongValue(f"this file is for a {said}", hint=f"give one for a {kind}"))
    reader.put_over(table, settings, environ)
    found = reader.table(settings, table, ())
    if reader.problems or found is None:
        raise InvalidSettings(file, kind, reader.problems)
    return found


def unknown_variables(kinds: Sequence[type[Settings]], environ: Mapping[str, str]) -> Iterator[str]:
    """Return a line for each ``DIT4C_*`` variable that no component has, as it may be mistyped."""
    known = {environment_variable(path) for kind in kinds for path, _ in every_setting(kind)}
    known.update(_OTHER_VARIABLES)
    for name in sorted(environ):
        if name.startswith("DIT4C_") and name not in known:
            instead = close_word(name, sorted(known))
            if instead:
                yield f"the environment's {name} is no setting; {instead}"


class _SettingsReader:
    """Reader that collects problems."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def say(self, name: str, error: ConfigError) -> None:
        """Note a problem with the setting ``name``."""
        self.problems.append(f"{printable_value(name)}: {error.one_line()}")

    def put_over(self, table: Table, settings: type[Settings], environ: Mapping[str, str]) -> None:
        """Write the environment's values into ``table``."""
        for path, declared in every_setting(settings):
            text = environ.get(environment_variable(path))
            if text is None:
                continue
            inner: Any = table
            for name in path[:-1]:
                inner = inner.setdefault(name, {}) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                inner[path[-1]] = declared.value.parse(text)

    def table(self, settings: type[S], raw: object, path: tuple[str, ...]) -> S | None:
        """Return a table as an object; None if it has a problem, which is noted."""
        if not isinstance(raw, dict):
            self.say(".".join(path), WrongValue(f"{shown_value(raw)} is not a table"))
            return None
        before = len(self.problems)
        declared = dict(declared_parts(settings))
        for name in raw.keys() - declared.keys():
            self._unknown(name, path, settings)
        given = {
            name: self._part(part, raw.get(name), (*path, name))
            for name, part in declared.items()
            if name in raw or self._needed(part, (*path, name))
        }
        if len(self.problems) > before:
            return None
        made = settings_with_values(settings, given)
        for name, message, hint in made.problems():
            self.say(".".join((*path, name)), WrongValue(message, hint=hint))
        return None if len(self.problems) > before else made

    def _part(self, part: Setting | Section, raw: object, path: tuple[str, ...]) -> object:
        if isinstance(part, Section) and part.many:
            if not isinstance(raw, list):
                self.say(".".join(path), WrongValue(f"write it as [[{path[-1]}]]"))
                return ()
            numbered = enumerate(raw, 1)
            return tuple(self.table(part.settings, one, (*path, str(n))) for n, one in numbered)
        if isinstance(part, Section):
            return self.table(part.settings, {} if raw is None else raw, path)
        try:
            return part.value.read(raw)
        except WrongValue as error:
            self.say(".".join(path), error)
            return None

    def _needed(self, part: Setting | Section, path: tuple[str, ...]) -> bool:
        """Whether an absent part has to be read; note a missing required setting."""
        if isinstance(part, Setting):
            if part.required:
                self.say(".".join(path), WrongValue("it is missing", hint=part.meaning))
            return False
        return part.shown and not part.many

    def _unknown(self, name: str, path: tuple[str, ...], settings: type[Settings]) -> None:
        known = [known for known, _ in declared_parts(settings)]
        self.say(
            ".".join((*path, name)),
            WrongValue(
                "there is no such setting",
                hint=close_word(name, known) or f"there are {', '.join(known)}",
            ),
        )
