"""What the upload helper tells the node agent, as lines on standard output."""

import sys
import time
from typing import TextIO

from dit4c_p2p.helpers.upload.stream_upload import Tally
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.upload import UploadDone, UploadFailed, UploadProgress

# A person sees it; more often is of no use.
_EVERY_S = 0.25


class Reporter:
    """Writes :class:`~dit4c_p2p.messages.upload.UploadLine` records."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = sys.stdout if output is None else output
        self.tally = Tally(self._moved)
        self.total = 0
        self._info = ""
        self._told = float("-inf")

    def waiting(self, text: str) -> None:
        """Say what is being waited for; empty: nothing any more."""
        self._info = text
        self._tell()

    def _moved(self) -> None:
        if time.monotonic() - self._told >= _EVERY_S:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        done = min(self.tally.done, self.total)
        self.write(
            UploadProgress(done=done, total=self.total, sent=self.tally.sent, info=self._info)
        )

    def write(self, line: UploadProgress | UploadDone | UploadFailed) -> None:
        """One line."""
        print(encode(line).decode(), file=self._output, flush=True)
