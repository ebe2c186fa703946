"""Router → portal, with ``Authorization: Bearer <JWT signed by the router's key>``."""

from dit4c_p2p.messages.codec import Record


class PageState(Record, frozen=True):
    """Answer of ``GET /instances/{id}/page-state``: what to say when an instance isn't connected.

    ``state`` is ``starting``, ``running``, ``stopped``, ``gone`` or ``unknown``, the last also for
    whatever the router may not know; ``title`` is what people call it, empty if that is nothing.
    """

    state: str
    title: str = ""
