"""Helper → portal, with ``Authorization: Bearer <JWT signed by the instance's key>``."""

from dit4c_p2p.messages.codec import Record


class AnswersOn(Record, frozen=True):
    """``PUT /instances/``: this instance answered its own URL through these routers (peer names).

    The portal takes the instance from the token and derives the URL itself. Answers 204.
    """

    routers: list[str]
