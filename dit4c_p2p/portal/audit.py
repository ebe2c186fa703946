"""The portal's audit log: what is recorded, and what happens when a line can't be written.

There are three ways to write, by what the act does:

- :meth:`Audit.record_required`: an act that lets somebody in, or gives them something. The line is
  written before the act counts, in the same transaction; without the line the act is not done.
- :meth:`Audit.record_best_effort`: an act that takes something away, or an event. It goes on when
  the log can't be written, because a key must be revocable on a full disk; missing lines are
  counted, and the next line that is written carries their number.
- :meth:`Audit.record_refusal`: somebody was turned away. The first few in each minute have a line
  each, the rest share one, so that a flood doesn't fill the disk.

The origin and the identity of each request are set once: :func:`set_request_origin` and
:func:`set_request_identity`.
"""

import asyncio
import logging
import os
import pwd
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dit4c_p2p.audit import AuditBroken, AuditLog, Place
from dit4c_p2p.errors import DitError
from dit4c_p2p.net.connection_limits import rate_limit_key
from dit4c_p2p.portal.opaque_tokens import public_id

_log = logging.getLogger(__name__)

# Of each kind, in a minute, with a line of its own; and of those from one address.
_SINGLE = 10
_SINGLE_PER_ADDRESS = 3
_MINUTE_S = 60.0
_MAX_COUNTED_ADDRESSES = 4096
_MAX_REASON_CHARS = 120

Told = Callable[[str, bool], None]


class NotAudited(DitError):
    """The act was not done, because its audit line could not be written."""

    code = "not_audited"


@dataclass(frozen=True)
class _RequestCaller:
    origin: str = ""
    who: str = ""
    key: str = ""
    proved: Callable[[], None] = lambda: None


_NOBODY = _RequestCaller()
_caller: ContextVar[_RequestCaller] = ContextVar("caller", default=_NOBODY)


def set_request_origin(origin: str | None, *, proved: Callable[[], None] = lambda: None) -> None:
    """A request has come from this address; nothing else is known of its caller yet.

    :param proved: called when the caller has proved who they are.
    """
    _caller.set(_RequestCaller(origin or "", proved=proved))


def set_request_identity(who: str, *, key: str = "", session: str = "", token: str = "") -> None:
    """The caller has proved who they are.

    :param key: the fingerprint of a peer's key.
    :param session: the digest of a browser's session.
    :param token: the digest of an API token.
    """
    if session:
        key = f"session:{public_id(session)}"
    elif token:
        key = f"token:{public_id(token)}"
    caller = _caller.get()
    _caller.set(replace(caller, who=who, key=key))
    caller.proved()


def local_audit_user() -> str:
    """Return the local user who runs a command on the portal's machine."""
    try:
        return f"local:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"local:{os.getuid()}"


@dataclass
class _CountedRefusals:
    """Of one kind, in one minute."""

    began: float
    single: int = 0
    more: int = 0
    addresses: Counter[str] = field(default_factory=Counter)


class Audit:
    """The portal's audit log; the file is made at the first line.

    :param told: called with what was done and whether it was (False: refused), for each act.
    :ivar lost: acts that went on without their line, since the last one that was written.
    :ivar lost_ever: the same since the start.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        told: Told = lambda what, done: None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._told = told
        self._file: AuditLog | None = None
        self._refusals: dict[str, _CountedRefusals] = {}
        self._shortened_before = 0
        self.lost = 0
        self.lost_ever = 0

    def open(self) -> None:
        """Check that the log can be written.

        :raises OSError: it can't be opened.
        :raises AuditBroken: it is something else.
        """
        if self._file is None:
            self._file = AuditLog(self._path, clock=self._clock)

    def close(self) -> None:
        """End; one more line would open it again."""
        file, self._file = self._file, None
        if file is not None:
            self._shortened_before += file.shortened
            file.close()

    @property
    def shortened(self) -> int:
        """How often lines that were written were found missing, since the start."""
        return self._shortened_before + (self._file.shortened if self._file else 0)

    async def newest(self) -> Place:
        """Where the log's chain stands now.

        :raises OSError: it can't be read.
        :raises AuditBroken: it is something else.
        """
        self.open()
        file = self._file
        if file is None:
            raise OSError("the audit log is not open")
        return await asyncio.to_thread(file.newest)

    async def record_required(
        self, what: str, *, who: str = "", about: str = "", outcome: str = "done"
    ) -> None:
        """Write down what is about to count. Whoever calls has not committed yet.

        :param who: if it is not the caller's own doing.
        :raises NotAudited: the act must not go on.
        """
        try:
            await self._write(what, who, about, outcome)
        except (OSError, AuditBroken) as error:
            _log.error(
                "not done, for the audit log can't be written: %s: %s", what, _error_text(error)
            )
            raise NotAudited(
                "this can't be written into the audit log now, and is not done",
                hint="an admin has to make room on the portal's disk",
            ) from None
        self._told(what, True)

    async def record_best_effort(
        self, what: str, *, who: str = "", about: str = "", outcome: str = "done"
    ) -> None:
        """Write down what is done in any case."""
        await self._note(what, who, about, outcome)
        self._told(what, True)

    async def record_refusal(
        self, what: str, reason: object, *, who: str = "", about: str = ""
    ) -> None:
        """Write down that somebody was turned away, or count it if there are many.

        :param reason: an error that is safe to show, or a text.
        """
        self._told(what, False)
        now, address = self._clock(), rate_limit_key(_caller.get().origin)
        counted = self._refusals.get(what)
        if counted is None or not 0 <= now - counted.began < _MINUTE_S:
            await self._finish(what)
            counted = self._refusals[what] = _CountedRefusals(now)
        if address in counted.addresses or len(counted.addresses) < _MAX_COUNTED_ADDRESSES:
            counted.addresses[address] += 1
        within = counted.addresses[address] <= _SINGLE_PER_ADDRESS
        if not within or counted.single >= _SINGLE:
            counted.more += 1
            return
        counted.single += 1
        text = " ".join(str(reason).split())[:_MAX_REASON_CHARS]
        await self._note(what, who, about, f"refused: {text}")

    async def finish(self) -> None:
        """Write down what is only counted so far, of minutes that are over; see what is missing."""
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.newest)
            except (OSError, AuditBroken) as error:
                _log.error("the audit log can't be looked at: %s", _error_text(error))
        now = self._clock()
        for what, counted in list(self._refusals.items()):
            if not 0 <= now - counted.began < _MINUTE_S:
                await self._finish(what)

    async def _finish(self, what: str) -> None:
        counted = self._refusals.pop(what, None)
        if counted is None or not counted.more:
            return
        ((address, _),) = counted.addresses.most_common(1)
        from_how_many = len(counted.addresses)
        many = f"{from_how_many} addresses, most from " if from_how_many > 1 else ""
        before = _caller.get()
        _caller.set(_RequestCaller(address))
        try:
            await self._note(what, "", "", f"refused: {counted.more} more, from {many}{address}")
        finally:
            _caller.set(before)

    async def _note(self, *line: str) -> None:
        try:
            await self._write(*line)
        except (OSError, AuditBroken) as error:
            self.lost += 1
            self.lost_ever += 1
            _log.error("done without a line in the audit log: %s: %s", line[0], _error_text(error))

    async def _write(self, what: str, who: str, about: str, outcome: str) -> None:
        self.open()
        file, caller = self._file, _caller.get()
        if file is None:
            raise OSError("the audit log is not open")
        lost, self.lost = self.lost, 0
        try:
            if lost:
                # In a thread: a disk that is busy takes long for it, and streams go on meanwhile.
                await _audit_trouble(file, "audit.lost", outcome=f"{lost} lines are missing here")
            lost = 0
            await _audit_trouble(
                file,
                what,
                who=who or caller.who,
                key=caller.key,
                origin=caller.origin,
                about=about,
                outcome=outcome,
            )
        finally:
            self.lost += lost


async def _audit_trouble(file: AuditLog, what: str, **more: Any) -> None:
    await asyncio.to_thread(file.write, what, **more)


def _error_text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
