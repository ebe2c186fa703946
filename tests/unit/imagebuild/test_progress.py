"""Progress as a person or a log reads it."""

import io

from dit4c_p2p.imagebuild.progress import TerminalProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_the_start_and_one_at_the_end_of_a_step() -> None:
    stream = io.StringIO()
    now = 0.0
    progress = TerminalProgress(stream, clock=lambda: now)
    progress("one", "working")
    for detail in ("a", "b", "done"):
        progress("one", detail)
    now = 12.0
    progress("two", "up to date")
    progress.close()
    progress.close()
    assert stream.getvalue() == "one: working\none: done (12 s)\ntwo: up to date\n"


def test_a_terminal_gets_one_line_a_step() -> None:
    stream = Terminal()
    progress = TerminalProgress(stream, columns=20, clock=lambda: 0.0)
    progress("one", "working")
    progress("one", "x" * 100)
    progress("one", "done")
    progress.close()
    shown = stream.getvalue()
    assert shown.count("\n") == 1
    assert shown.endswith("\r\x1b[Kone: done\n")
    assert max(len(part.removeprefix("\x1b[K")) for part in shown.split("\r")) <= 20
