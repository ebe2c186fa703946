"""The adapter to aiodocker's private request method."""

import aiodocker
import pytest

from dit4c_p2p.engine_api import check_aiodocker


class WithoutTheMethod:
    pass


class OtherOrder:
    async def _query(self, method, path, *, params, data, headers, timeout):
        """Takes the method before the path."""


class WithoutParameters:
    async def _query(self, path, method, *, params, headers):
        """Sends no body."""


def test_the_installed_release_has_the_method():
    check_aiodocker()


@pytest.mark.parametrize("changed", [WithoutTheMethod, OtherOrder, WithoutParameters])
def test_a_release_that_changed_the_method_fails_at_import(changed):
    with pytest.raises(ImportError, match=aiodocker.__version__):
        check_aiodocker(changed)
