"""Paging of lists by cursors, which name the item after which the next page begins.

The cursor holds the last item's place: for rows their time and id. Rows added meanwhile are newer
and come before; every other row appears on exactly one page.
"""

import base64
import binascii
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from dit4c_p2p.portal.errors import BadRequest

MAX_LIMIT = 100
MAX_CURSOR_CHARS = 200

M = TypeVar("M", bound=Model)
T = TypeVar("T")

# Where an item stands in its list, and what tells apart those that stand at the same.
Place = tuple[float, str]


async def page_of_rows(
    rows: QuerySet[M], limit: int, cursor: str, *, time: str, id: str
) -> tuple[list[M], str]:
    """Return the newest ``limit`` rows after ``cursor``, and the next cursor, empty at the end.

    :param time: the column that the rows are sorted by.
    :param id: a unique column, for rows of the same time.
    :raises BadRequest: not a cursor.
    """
    if cursor:
        at, last = _decode_cursor(cursor)
        older: dict[str, Any] = {f"{time}__lt": at}
        same: dict[str, Any] = {time: at, f"{id}__lt": last}
        rows = rows.filter(Q(**older) | Q(**same))
    found = await rows.order_by(f"-{time}", f"-{id}").limit(limit + 1)
    if len(found) <= limit:
        return found, ""
    end = found[limit - 1]
    return found[:limit], _encode_cursor(getattr(end, time), getattr(end, id))


def part_of_items(
    items: Iterable[T], limit: int, cursor: str, *, place: Callable[[T], Place]
) -> tuple[list[T], str]:
    """:func:`page_of_rows` of a short list that is in memory, sorted by ``place`` and going up.

    :param place: of an item; no other has the same.
    :raises BadRequest: not a cursor.
    """
    after = _decode_cursor(cursor) if cursor else (-math.inf, "")
    left = sorted((item for item in items if place(item) > after), key=place)
    found = left[:limit]
    return found, _encode_cursor(*place(found[-1])) if len(left) > limit else ""


def _encode_cursor(at: float, id: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([at, id])).rstrip(b"=").decode()


def _decode_cursor(cursor: str) -> Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True)
        at, id = msgspec.json.decode(text, type=Place)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise _invalid_cursor() from None
    if not math.isfinite(at) or "\0" in id:
        raise _invalid_cursor()
    return at, id


def _invalid_cursor() -> BadRequest:
    return BadRequest(
        "the cursor is not one that a Link header gave", field="cursor", hint="begin again"
    )
