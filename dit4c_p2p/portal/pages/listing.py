"""Tables of pages: the search, the order, the part that is shown and how many rows there are.

    listing = Listing.asked(call, "/admin/people", PEOPLE, usual="-created")
    rows = await listing.rows(people.search(listing.wanted, now=now))
    return call.page("admin_people.html", people=rows, listing=listing)

The template's macros ``search``, ``sorted_table`` and ``parts`` of ``_list.html`` show it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from tortoise.models import Model
from tortoise.queryset import QuerySet

from dit4c_p2p.portal.pages.page import PageCall

M = TypeVar("M", bound=Model)
T = TypeVar("T")

SHOWN = 50
# Later parts are not walked through: a search finds what is in them.
_MAX_PART = 10_000
_MAX_WANTED_CHARS = 100


@dataclass
class Listing:
    """One table as it was asked for.

    :ivar wanted: what is looked for.
    :ivar sort: the key of a column, with ``-`` before it for the last first.
    :ivar total: how many rows there are, once they were read.
    """

    path: str
    columns: Mapping[str, tuple[str, ...]]
    wanted: str = ""
    sort: str = ""
    part: int = 1
    size: int = SHOWN
    total: int = 0
    kept: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def asked(
        cls,
        call: PageCall,
        path: str,
        columns: Mapping[str, tuple[str, ...]],
        *,
        usual: str,
        size: int = SHOWN,
        kept: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the query ``q``, ``sort`` and ``part``; what is not known counts as not given.

        :param columns: by a column's key in the query, the fields that it sorts by.
        :param usual: the sort if none is given.
        :param kept: other parts of the query, to be in each link.
        """
        query = call.request.query
        sort = query.get("sort", "")
        if sort.removeprefix("-") not in columns:
            sort = usual
        text = query.get("part", "1")
        part = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 1
        return cls(
            path=path,
            columns=columns,
            wanted=query.get("q", "")[:_MAX_WANTED_CHARS].strip(),
            sort=sort,
            part=min(max(part, 1), _MAX_PART),
            size=size,
            kept={name: value for name, value in (kept or {}).items() if value},
        )

    async def rows(self, found: QuerySet[M]) -> list[M]:
        """Return this part of the rows of a query, sorted; counts all of them."""
        self._count(await found.count())
        minus = "-" if self.sort.startswith("-") else ""
        order = [f"{minus}{name}" for name in self.columns[self.sort.removeprefix("-")]]
        return await found.order_by(*order).offset(self.first - 1).limit(self.size)

    def items(
        self, found: Iterable[T], key: Callable[[T, str], Any], text: Callable[[T], str]
    ) -> list[T]:
        """Return this part of a list in memory; the search looks in ``text`` of each item.

        :param key: what an item is sorted by, given the name of a field.
        """
        wanted = self.wanted.casefold()
        kept = [one for one in found if wanted in text(one).casefold()] if wanted else list(found)
        names = self.columns[self.sort.removeprefix("-")]
        kept.sort(
            key=lambda one: tuple(_sortable_for_listing_page(key(one, name)) for name in names),
            reverse=self.sort.startswith("-"),
        )
        self._count(len(kept))
        return kept[self.first - 1 : self.first - 1 + self.size]

    def _count(self, total: int) -> None:
        self.total = total
        self.part = min(self.part, max(1, -(-total // self.size)))

    # ---- for the template

    @property
    def first(self) -> int:
        """The number of the first row shown, from 1."""
        return (self.part - 1) * self.size + 1

    @property
    def last(self) -> int:
        """The number of the last row shown."""
        return min(self.part * self.size, self.total)

    def direction(self, key: str) -> str:
        """Return how the rows are sorted by a column, as ``aria-sort`` has it."""
        if self.sort.removeprefix("-") != key:
            return "none"
        return "descending" if self.sort.startswith("-") else "ascending"

    def sorted_by(self, key: str) -> str:
        """Return the link that sorts by a column, and the other way at the second time."""
        again = self.direction(key) == "ascending"
        return self._link(sort=f"-{key}" if again else key)

    def at(self, part: int) -> str:
        """Return the link to another part."""
        return self._link(sort=self.sort, part=str(part) if part > 1 else "")

    def _link(self, **more: str) -> str:
        query = {"q": self.wanted, **self.kept, **more}
        given = urlencode({name: value for name, value in query.items() if value})
        return f"{self.path}?{given}" if given else self.path


def _sortable_for_listing_page(value: Any) -> tuple[bool, Any]:
    """What is not known comes first; text is compared without regard to case."""
    if isinstance(value, str):
        return (bool(value), value.casefold())
    return (value is not None, 0 if value is None else value)
