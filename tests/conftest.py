"""What tests of several components share."""

import logging

import pytest

from dit4c_p2p.net.stranger_log import SummingFilter

pytest_plugins = ["lib.database_engines", "lib.side_by_side"]


@pytest.fixture(autouse=True)
def every_line_is_written() -> None:
    """What a test reads in the log does not depend on how often the test before caused it."""
    for logger in list(logging.Logger.manager.loggerDict.values()):
        for one in getattr(logger, "filters", ()):
            if isinstance(one, SummingFilter):
                one.forget()
