"""The main job as a person does it, in Chromium."""

import re

import pytest
from lib.notebook import run_a_cell
from playwright.sync_api import expect
from systems.all_in_one import dit4c

pytestmark = [pytest.mark.engine, pytest.mark.browser]


def test_from_the_link_to_a_cell_and_away_again(system, page, shots):
    portal = system.access["portal"]

    # The one of the ready file may have been used: a link is good once.
    made = dit4c("login-link", "admin", "--data-dir", system.data)
    page.goto(made.stdout.strip())
    page.screenshot(path=shots / "1-login.png")
    page.get_by_role("button", name=re.compile("log in", re.I)).click()
    page.wait_for_url(f"{portal}/")
    page.screenshot(path=shots / "2-dashboard.png")

    page.locator('[data-action="start"][data-image="jupyterlab"]').click()
    row = page.locator("[data-instance]").first
    expect(row).to_be_visible()
    page.screenshot(path=shots / "3-starting.png")
    expect(row).to_have_attribute("data-state", "running", timeout=60_000)
    instance = row.get_attribute("data-instance")
    opening = row.locator('[data-action="open"]')
    expect(opening).to_be_visible(timeout=30_000)
    page.screenshot(path=shots / "4-running.png")
    url = opening.get_attribute("href")

    lab = page.context.new_page()
    lab.goto(url)
    assert lab.url.startswith(f"http://{instance}.localhost:{system.ports[1]}/")
    run_a_cell(lab)
    lab.screenshot(path=shots / "5-cell.png")

    row.locator('[data-action="discard"]').click()
    page.screenshot(path=shots / "6-confirm.png")
    page.locator('dialog[open] [data-action="confirm-discard"]').click()
    expect(page.locator(f'[data-instance="{instance}"]')).to_have_count(0, timeout=60_000)
    page.screenshot(path=shots / "7-discarded.png")
    assert system.at_engine(instance) == []

    lab.goto(url)
    expect(lab.locator("body")).to_contain_text(re.compile("gone", re.I))
    lab.screenshot(path=shots / "8-gone.png")

    page.goto(f"{portal}/admin/keys?state=revoked")
    expect(page.locator("body")).to_contain_text(f"instance-{instance}")
    page.screenshot(path=shots / "9-keys.png", full_page=True)
