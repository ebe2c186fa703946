"""The portal's page in Chromium, as a person goes about it."""

import re

from playwright.sync_api import Page, expect
from systems.all_in_one import System, dit4c


def open_dashboard(page: Page, system: System) -> None:
    """By a link made for the admin; the page is the dashboard then."""
    made = dit4c("login-link", "admin", "--data-dir", system.data)
    page.goto(made.stdout.strip())
    page.get_by_role("button", name=re.compile("log in", re.I)).click()
    page.wait_for_url(f"{system.access['portal']}/")


def discard(page: Page, system: System, title: str) -> None:
    """Discard the only instance of a tool, and see that nothing of it is left."""
    row = page.locator("[data-instance]").filter(has_text=title)
    instance = row.get_attribute("data-instance")
    row.locator('[data-action="discard"]').click()
    page.locator('dialog[open] [data-action="confirm-discard"]').click()
    expect(page.locator(f'[data-instance="{instance}"]')).to_have_count(0, timeout=60_000)
    assert system.at_engine(instance) == []
