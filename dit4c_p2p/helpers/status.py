"""Status of a helper, reported to the node agent on standard output."""

import sys
from typing import TextIO

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.pod import HelperState, HelperStatus


class StatusLines:
    """Writes a :class:`HelperStatus` line whenever it differs from the last one."""

    def __init__(self, helper: str, output: TextIO | None = None) -> None:
        self._helper = helper
        self._output = sys.stdout if output is None else output
        self.last: HelperStatus | None = None

    def report(self, state: HelperState, detail: str = "") -> None:
        """Say where the helper is; ``detail`` is a short sentence, cut at 500 characters."""
        status = HelperStatus(helper=self._helper, state=state, detail=detail[:500])
        if status == self.last:
            return
        self.last = status
        print(encode(status).decode(), file=self._output, flush=True)
