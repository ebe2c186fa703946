import os
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from systems.all_in_one import System

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Two tests run at a time, and a notebook's kernel starts meanwhile.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    """One running system that the tests of a session share."""
    with System(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture
def own_system(tmp_path):
    """A system of a test's own, not started yet."""
    system = System(tmp_path)
    try:
        yield system
    finally:
        system.end()


@pytest.fixture
def shots(tmp_path):
    """Where screenshots go: a folder of the test's, or the one of DIT4C_SHOTS."""
    folder = Path(os.environ.get("DIT4C_SHOTS") or tmp_path / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(tmp_path):
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1200, "height": 800},
        )
        context.set_default_timeout(60_000)
        page = context.pages[0]
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        context.close()
        assert problems == []
