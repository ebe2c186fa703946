"""Base classes of the errors that this package raises on purpose.

    DitError                 a stable code, a sentence for a person, what to do about it
    ├── identity.errors      names, keys, signatures, the registry
    ├── overlay.errors       listen, dial, calls
    └── …                    each component declares its own beside where it is raised

An error is raised where the reason is known and translated once, at the edge: to an HTTP status, an
SSH reason, or one line on the terminal. Its text is safe to show: never a token, a key or contents.
"""


class DitError(Exception):
    """An expected failure.

    Subclasses set ``code``, a stable word for programs (``key_revoked``). ``str(error)`` is a
    sentence for a person, as it goes on after a colon; ``hint`` is another, says what to do and may
    be empty. It begins with no word that must not be capitalized, such as a command's.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def one_line(self) -> str:
        """The message and the hint on one line, as a terminal shows it."""
        return f"{self}. {self.hint[0].upper()}{self.hint[1:]}" if self.hint else str(self)


class ConfigError(DitError):
    """A setting, an argument or this machine is not as it must be; the hint says what to change."""

    code = "config"
