"""Routers to test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from systems.router import House, a_house

from dit4c_p2p.router import Limits


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A router with the limits that it has by default."""
    async with a_house(tmp_path, Limits()) as it:
        yield it


@pytest.fixture
async def strict_house(tmp_path: Path) -> AsyncIterator[House]:
    """A router that bears little and waits for nothing long."""
    limits = Limits(
        head_s=0.5,
        open_s=0.5,
        page_state_s=0.3,
        stalled_s=5,
        visitors_per_address=40,
        tunnels_per_key=2,
        channels_per_tunnel=5,
    )
    async with a_house(tmp_path, limits) as it:
        yield it
