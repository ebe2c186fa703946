"""What the API gives about instances; see ``portal.schemas``."""

from typing import Literal

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.schemas import Time, View


class UnreachableView(View, frozen=True):
    """What of an instance can't be reached, since when, and why.

    ``key``: its own, which was revoked; it can be given a new one. ``machine``, ``cluster``: it may
    go on there meanwhile, unseen.
    """

    what: Literal["key", "machine", "cluster"]
    since: Time
    why: str


class CheckpointView(View, frozen=True):
    """The files of an instance, saved while it runs.

    ``at`` is the moment of the newest that is kept. ``busy``: another one is under way;
    ``progress`` runs from 0 to 1. ``info`` is a sentence on that, or on why there is none.
    ``minutes``: how often one is made, 0 for never, null as its person has it.
    """

    busy: bool
    info: str
    progress: float | None
    at: Time | None
    minutes: int | None


class MemoryView(View, frozen=True):
    """Memory that an app uses, and the most that it may use."""

    used_bytes: int
    limit_bytes: int


class InstanceView(View, frozen=True):
    """An instance; ``url`` is there once it can be opened, ``actions`` are of ``open``,
    ``stop``, ``start`` (again, where it is), ``save``, ``checkpoint``, ``copy`` (``POST instances``
    with ``from``), ``go-on`` (from its checkpoint at another machine), ``new-key`` and
    ``discard``.

    ``info`` is a sentence for its user, ``progress`` runs from 0 to 1. ``since``: when its state
    last changed. ``unreachable``: why the state is of before, if it can't be known now.
    ``memory``: what its app uses, while it runs and that is known.
    ``kept_on``: earlier machines that have a container of it, from before it went on elsewhere.
    """

    id: str
    name: str
    state: State
    info: str
    progress: float | None
    url: str | None
    image: str
    actions: list[str]
    created: Time
    since: Time
    unreachable: UnreachableView | None = None
    checkpoint: CheckpointView | None = None
    kept_on: list[str] = []
    memory: MemoryView | None = None
