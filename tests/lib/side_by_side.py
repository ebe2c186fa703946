"""Three tests at a time (a plugin of pytest, see ``tests/conftest.py``): ``pytest -n 3``.

Half of the whole run is waiting, for engines, browsers and clocks, so that two cores serve three
workers. What starts whole systems stays together in two of them, and so does what fills the engine
with pods in one; everything else goes file by file to whoever is free. The long ones come first.
"""

from collections.abc import Generator
from typing import Any

import pytest

TOGETHER = (
    (
        *(f"tests/e2e/test_{name}" for name in ("again", "alone", "crash", "reboot", "revoked")),
        "tests/integration/run/",
    ),
    ("tests/e2e/",),
    ("tests/integration/node/", "tests/integration/imagebuild/"),
)


def place_of(nodeid: str) -> tuple[int, str]:
    """When a test's turn comes, and what it stays together with."""
    for rank, folders in enumerate(TOGETHER):
        if nodeid.startswith(folders):
            return rank, folders[0]
    return len(TOGETHER), nodeid.partition("::")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker, the long ones first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid)[0])


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: Any) -> Generator[None, Any, Any]:
    """A worker's reports go over a pipe that takes no half of a surrogate pair."""
    return _encodable((yield))


def _encodable(part: Any) -> Any:
    if isinstance(part, str):
        return part.encode(errors="backslashreplace").decode()
    if isinstance(part, dict):
        return {_encodable(key): _encodable(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(map(_encodable, part))
    return part


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole places to workers, in the order in which they are found."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return place_of(nodeid)[1]

    config.option.loadscopereorder = False
    return ByPlace(config, log)
