"""What a person is told of files when an instance has been stopped."""

import io

import pytest

from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.messages.pod import HelperState
from dit4c_p2p.node.pods.files_mount import said_at_its_end

CONNECTED, UNSENT, CONFLICT = HelperState.CONNECTED, HelperState.UNSENT, HelperState.CONFLICT
NOT_SENT = "these files were not sent to the file server: private/a, private/b"
KEPT = "changed elsewhere as well, so what was written here is kept in: private/c (conflict)"


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ([], ""),
        ([(CONNECTED, "")], ""),
        ([(CONNECTED, ""), (UNSENT, "private/a, private/b")], NOT_SENT),
        ([(CONFLICT, "private/c (conflict)")], KEPT),
        (
            [(UNSENT, "private/a, private/b"), (CONFLICT, "private/c (conflict)")],
            f"{NOT_SENT}; {KEPT}",
        ),
    ],
)
def test_the_helpers_last_words_become_a_sentence(reports, told):
    output = io.StringIO("a line of a library\n")
    output.seek(0, io.SEEK_END)
    status = StatusLines("storage", output)
    for state, detail in reports:
        status.report(state, detail)
    print("{not a status}", file=output)
    assert said_at_its_end(output.getvalue()) == told
