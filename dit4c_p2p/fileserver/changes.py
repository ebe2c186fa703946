"""Who has changed which file's contents, as far back as a mount may have been away: pure records.

A mount that was cut off comes back with writes of before. They may be carried out unless somebody
else has changed their file meanwhile. So each change of contents is counted, and kept with whoever
made it: a mount by its number, whatever session it has, anybody else by the session.
"""

from collections.abc import Hashable
from typing import NamedTuple

# Mounts give up what they could not send after ten minutes at most; this is longer.
KEPT_S = 900.0


class _Changed(NamedTuple):
    """The last change of a file, and the last one by anybody but ``who``."""

    point: int
    who: Hashable
    at: float
    other_point: int
    other_at: float


class Changes:
    """The changes of one tree.

    :param most: so many files are kept; one that was forgotten counts as changed.
    :ivar point: how many changes there were.
    """

    def __init__(self, most: int = 200_000) -> None:
        self._most = most
        self._files: dict[int, _Changed] = {}
        self._forgotten = 0
        self.point = 0

    def note(self, who: Hashable, file_id: int, now: float, *, made: bool = False) -> None:
        """``who`` is about to change a file's contents, or has renamed it or removed its last name.

        :param made: ``who`` has made it: what was done to another file of its number is over.
        """
        self.point += 1
        before = self._files.pop(file_id, None)
        other = 0, 0.0
        if before is not None and not made:
            same = before.who == who
            other = (before.other_point, before.other_at) if same else (before.point, before.at)
        self._files[file_id] = _Changed(self.point, who, now, *other)
        for _ in range(2):
            oldest, its = next(iter(self._files.items()))
            if len(self._files) <= self._most and its.at > now - KEPT_S:
                break
            del self._files[oldest]
            self._forgotten = its.point

    def by_others(self, who: Hashable, file_id: int, since: int, until: float) -> bool:
        """Whether anybody but ``who`` has changed a file after the point ``since``.

        :param until: the last such change counts if it was not made later than that.
        """
        found = self._files.get(file_id)
        if found is None:
            return since < self._forgotten
        if found.who != who:
            return found.point > since and found.at <= until
        return found.other_point > since and found.other_at <= until
