"""Declaration of settings: fields of frozen, keyword-only dataclasses, declared once for all uses.

    @dataclass(frozen=True, kw_only=True)
    class Lamp(Settings):
        \"\"\"A lamp.\"\"\"

        colour: str = setting(values.text, "What it shines in.", default="white")
        timer: Timer = section(Timer, "When it goes out.")

The declaration is used to read the file (``read``), to write the commented examples (``example``),
and to name the environment variable (:func:`environment_variable`).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.settings.value import Value

_DECLARED = "dit4c setting"
_PREFIX = "DIT4C_"

T = TypeVar("T")


class _RequiredSetting:
    """Marker of a setting without a default."""


REQUIRED = _RequiredSetting()


class Settings:
    """Base of every group of settings: a whole file or a table in it."""

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Yield inconsistent settings: the setting's name, what is wrong, and what to do."""
        yield from ()

    def file_problems(self) -> Iterator[ConfigError]:
        """Yield what is wrong with the files that the settings name, by opening them."""
        yield from ()


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Setting:
    """One value. ``example`` is shown where there is no default, or where it says more.

    ``shown``: the example file has it in force although it may be left out. ``name``: what it is
    called in files; empty for the field's own name.
    """

    value: Value[Any]
    meaning: str
    default: object
    example: object
    shown: bool = False
    name: str = ""

    @property
    def required(self) -> bool:
        """Whether the setting has no default."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class Section:
    """A table, or with ``many`` any number of them (``[[name]]``).

    ``shown``: the example file has it in force, not commented out.
    """

    settings: type[Settings]
    meaning: str
    many: bool
    shown: bool


def setting(
    value: Value[T],
    meaning: str,
    *,
    default: object = REQUIRED,
    example: object = REQUIRED,
    shown: bool = False,
    name: str = "",
) -> Any:
    """Declare a field of a :class:`Settings` class.

    :param meaning: a sentence or two.
    :param name: what it is called in files, where the field's name carries the unit.
    """
    declared = Setting(value, meaning, default, example, shown, name)
    if default is REQUIRED:
        return dataclasses.field(metadata={_DECLARED: declared})
    return dataclasses.field(default=default, metadata={_DECLARED: declared})


def section(settings: type[Settings], meaning: str) -> Any:
    """Declare a table; a missing table has its defaults, unless it has a required setting."""
    needed = any(
        isinstance(part, Setting) and part.required for _, part in declared_parts(settings)
    )
    declared = Section(settings, meaning, many=False, shown=needed)
    if needed:
        return dataclasses.field(metadata={_DECLARED: declared})
    return dataclasses.field(default_factory=settings, metadata={_DECLARED: declared})


def sections(settings: type[Settings], meaning: str, *, shown: bool = False) -> Any:
    """Declare any number of tables with one name; none by default."""
    return dataclasses.field(
        default=(), metadata={_DECLARED: Section(settings, meaning, many=True, shown=shown)}
    )


def declared_parts(settings: type[Settings]) -> list[tuple[str, Setting | Section]]:
    """Return every name of a class with its declaration, in the order of the declarations.

    Fields that are not declared, and thus not settable, are left out.
    """
    return [(name, part) for name, _, part in _declared_fields(settings)]


def settings_with_values(settings: type[S], values: Mapping[str, object]) -> S:
    """Return an object of a class with the values of names in files."""
    fields = {name: field for name, field, _ in _declared_fields(settings)}
    return settings(**{fields[name]: value for name, value in values.items()})


def _declared_fields(settings: type[Settings]) -> Iterator[tuple[str, str, Setting | Section]]:
    """Yield the name in files, the field and the declaration of each."""
    if not dataclasses.is_dataclass(settings):
        raise TypeError(f"{settings.__name__} is no dataclass")
    for field in dataclasses.fields(settings):
        part = field.metadata.get(_DECLARED)
        if isinstance(part, Setting):
            yield part.name or field.name, field.name, part
        elif isinstance(part, Section):
            yield field.name, field.name, part


def every_setting(
    settings: type[Settings], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Yield every setting with its path, except those of repeated tables."""
    for name, part in declared_parts(settings):
        if isinstance(part, Setting):
            yield (*path, name), part
        elif not part.many:
            yield from every_setting(part.settings, (*path, name))


def environment_variable(path: Sequence[str]) -> str:
    """Return the environment variable that overrides a setting: ``DIT4C_LIMITS_SESSION_IDLE``."""
    return _PREFIX + "_".join(path).upper()
