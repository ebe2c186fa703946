"""Saved in the browser at one node, and had again at another, in a copy, a share and an archive.

The other node has a container engine of its own that lacks the tool's image. The image server is
ours, and then Debian's docker-registry behind nginx.
"""

import asyncio
import re

import pytest
from playwright.sync_api import expect
from systems.pods import app_of, docker, make_image
from systems.saving import CHANGES, LISTING, PATHS, listing, shell
from systems.two_nodes import two_nodes_with_a_tool

pytestmark = [pytest.mark.engine, pytest.mark.browser, pytest.mark.root]


async def add_person(house, name: str) -> str:
    async with house.api() as api:
        return str((await api.call("POST", "people", {"name": name}, expect=201))["id"])


@pytest.fixture(params=["ours", "stock"])
def house(request, tmp_path_factory):
    web = make_image(
        {
            "data/kept": b"from the image",
            "index.html": b"hello",
            "doomed": b"x",
            "replaced/old": b"old",
        },
        # The first process of a container ends by a signal only if it says so.
        'CMD ["sh","-c","trap exit TERM; httpd -f -p 8080 -h / & wait"]',
        "EXPOSE 8080",
        "ENV PATH=/bin",
        "VOLUME /data",
    )
    with two_nodes_with_a_tool(
        tmp_path_factory.mktemp("away"), web, stock=request.param == "stock"
    ) as house:
        house.other_person = asyncio.run(add_person(house, "Eve"))
        yield house


def log_in(page, house, person: str) -> None:
    page.goto(house.run("login-link", person, "--config", house.file("portal")))
    page.get_by_role("button", name=re.compile("log in", re.I)).click()
    page.wait_for_url(f"{house.url}/")


def row(page, state: str):
    """The row that is in that state, once there is one; its instance."""
    found = page.locator(f'[data-instance][data-state="{state}"]')
    expect(found).to_have_count(1, timeout=90_000)
    return found, found.get_attribute("data-instance")


def at_home(house, instance: str) -> list[str]:
    """What is in the app at the other node."""
    script = LISTING.format(paths=" ".join(PATHS))
    return house.engine.docker("exec", "-u", "0", app_of(instance), "sh", "-c", script).splitlines()


def test_its_files_are_the_same_wherever_it_goes_on(house, page):
    log_in(page, house, "admin")
    page.locator('[data-action="start"][data-image="web"]').click()
    running, first = row(page, "running")
    shell(app_of(first), CHANGES)
    before = listing(app_of(first), *PATHS)
    running.locator('[data-action="save-instance"]').click()
    preserved, _ = row(page, "uploaded")
    label = f"label=dit4c.instance={first}"
    for _ in range(100):
        if not docker("ps", "-aq", "--filter", label):
            break
        page.wait_for_timeout(100)
    assert docker("ps", "-aq", "--filter", label) == "", "the first node's disk is free again"
    house.stop("away")

    preserved.locator('[data-action="copy-instance"]').click()
    _, second = row(page, "running")
    assert at_home(house, second) == before

    preserved.locator('[data-action="saved"]').click()
    with page.expect_download() as download:
        page.locator('[data-action="export"]').click()
    archive = download.value.path().read_bytes()
    loaded = f"dit4c-{first}:saved"
    assert loaded in docker("load", data=archive)
    try:
        docker("run", "-d", "--name", f"{first}-run", "--network", "none", loaded)
        assert listing(f"{first}-run", *PATHS) == before
    finally:
        docker("rm", "-fv", f"{first}-run", check=False)
        docker("rmi", "-f", loaded, check=False)

    page.locator('[data-action="share"]').click()
    link = page.locator("#secret").input_value()
    log_in(page, house, house.other_person)
    page.goto(link)
    page.locator('[data-action="start-shared"]').click()
    _, third = row(page, "running")
    assert third not in (first, second)
    assert at_home(house, third) == before

    log_in(page, house, "admin")
    page.goto(f"{house.url}/instances/{first}/saved")
    expect(page.locator("[data-share]")).to_contain_text("(copy)")
    page.locator('[data-action="revoke-share"]').click()
    expect(page.locator("[data-share]")).to_contain_text("revoked")
    page.goto(link)
    expect(page.locator("main")).to_contain_text("leads nowhere")
