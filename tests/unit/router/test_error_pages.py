"""What the router says by itself."""

import base64
import hashlib
import json
import re

import pytest

from dit4c_p2p import resources
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.router import error_pages
from dit4c_p2p.router.config import user_domain_of_url

PORTAL = "https://portal.example.org/"
ALL = [
    error_pages.no_such_instance_page(PORTAL),
    error_pages.starting_page("JupyterLab", PORTAL),
    error_pages.stopped_page("JupyterLab", PORTAL, "n3orsaj32z"),
    error_pages.gone_page("JupyterLab", PORTAL),
    error_pages.not_connected_page("JupyterLab", PORTAL),
    error_pages.portal_silent_page(),
    error_pages.clock_off_page(),
    error_pages.busy_page(),
    error_pages.wrong_host_page(),
    error_pages.bad_request_page(431, "the request head is over 65536 bytes"),
    error_pages.head_late_page(10),
]


@pytest.fixture(scope="module")
def renderer() -> error_pages.ErrorPageRenderer:
    return error_pages.ErrorPageRenderer(resources.folder("templates") / "router")


def split(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    return first, dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.code)
def test_a_page_is_complete_and_its_policy_lets_its_style_through(
    renderer: error_pages.ErrorPageRenderer, page: error_pages.ErrorPage
) -> None:
    first, fields, body = split(renderer.render(page))
    assert first == f"HTTP/1.1 {page.status} {page.reason}"
    assert fields["Content-Length"] == str(len(body))
    assert fields["Connection"] == "close"
    assert fields["Cache-Control"] == "no-store"
    text = body.decode()
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in fields["Content-Security-Policy"]
    assert fields["Content-Security-Policy"].startswith("default-src 'none'")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert bool(script) == bool(page.refresh_s)
    if script:
        digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in fields["Content-Security-Policy"]
    assert "unsafe" not in fields["Content-Security-Policy"]
    assert 'lang="en"' in text
    assert "<h1>" in text


def test_starting_asks_to_come_back_and_refreshes_by_itself(
    renderer: error_pages.ErrorPageRenderer,
) -> None:
    _, fields, body = split(renderer.render(error_pages.starting_page("x", PORTAL)))
    assert fields["Retry-After"] == "2"
    assert b'<noscript><meta http-equiv="refresh" content="2"></noscript>' in body


def test_a_stopped_one_can_be_started_from_its_page(
    renderer: error_pages.ErrorPageRenderer,
) -> None:
    page = error_pages.stopped_page("x", "https://portal.example.org/", "n3orsaj32z")
    body = renderer.render(page)
    assert b'href="https://portal.example.org/instances/n3orsaj32z/start"' in body
    assert b'class="bar"' not in body


def test_a_title_is_text_and_no_markup(renderer: error_pages.ErrorPageRenderer) -> None:
    body = renderer.render(error_pages.gone_page("<script>alert(1)</script>", PORTAL))
    assert b"<script" not in body and b"&lt;script&gt;" in body


def test_a_problem_document(renderer: error_pages.ErrorPageRenderer) -> None:
    _, fields, body = split(renderer.render(error_pages.gone_page("Lab", PORTAL), as_json=True))
    assert fields["Content-Type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == 410 and problem["code"] == "gone" and problem["title"]


def test_a_head_without_its_body(renderer: error_pages.ErrorPageRenderer) -> None:
    _, fields, body = split(renderer.render(error_pages.busy_page(), head_only=True))
    assert int(fields["Content-Length"]) > 0 and not body


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("application/problem+json;q=0.9, */*", True),
        ("application/json, text/html", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_form_follows_accept(accept: str, json_wanted: bool) -> None:
    assert error_pages.client_prefers_json(accept) is json_wanted


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("http://{id}.localhost:8081/", "localhost"),
        ("https://{id}.Users.example.net/", "users.example.net"),
    ],
)
def test_the_user_domain(url: str, domain: str) -> None:
    assert user_domain_of_url(url) == domain


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8081/",
        "http://{id}/",
        "http://x{id}.localhost/",
        "http://{id}.localhost:8081",
        "http://{id}.localhost/{id}/",
        "http://{id}.localhost/?a",
        "ftp://{id}.localhost/",
        "",
    ],
)
def test_a_bad_user_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        user_domain_of_url(url)
    assert "\n" not in caught.value.one_line()
