import pytest
from support.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    """One running system that the tests of a session share."""
    system = System(tmp_path_factory.mktemp("system"))
    system.start()
    try:
        yield system
    finally:
        system.end()


@pytest.fixture
def own_system(tmp_path):
    """A system of a test's own, not started yet."""
    system = System(tmp_path)
    try:
        yield system
    finally:
        system.end()
