"""The API's document says what the declarations check."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from dit4c_p2p.portal.accounts.user_agents import describe_user_agent
from dit4c_p2p.portal.api import openapi
from dit4c_p2p.portal.api.routes import ENDPOINTS

DOCUMENT = openapi.describe_api(ENDPOINTS, "https://portal.example.org")


def test_it_is_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1")
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_every_endpoint_is_there_once():
    described = {
        (method.upper(), path) for path, ways in DOCUMENT["paths"].items() for method in ways
    }
    assert described == {(endpoint.method, endpoint.pattern) for endpoint in ENDPOINTS}
    assert len(described) == len(ENDPOINTS)
    ids = [way["operationId"] for ways in DOCUMENT["paths"].values() for way in ways.values()]
    assert len(set(ids)) == len(ids)


def test_every_operation_says_what_it_does_takes_and_answers():
    for path, ways in DOCUMENT["paths"].items():
        for way in ways.values():
            assert way["summary"], path
            assert {"400", "401", "403", "503"} <= set(way["responses"])
            assert "404" in way["responses"] or "{" not in path
            if "requestBody" in way:
                assert {"413", "415"} <= set(way["responses"])


def test_what_is_taken_is_told_to_the_last_limit():
    (limit,) = [
        parameter
        for parameter in DOCUMENT["paths"]["/api/v1/instances"]["get"]["parameters"]
        if parameter["name"] == "limit"
    ]
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 100}
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["NewInstance"]["additionalProperties"] is False
    assert schemas["NewInstance"]["properties"]["from"]["maxLength"] == 40
    assert schemas["NewToken"]["properties"]["days"]["maximum"] == 366
    assert not [name for name in schemas if name.endswith("Query") or name == "Page"]


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        ("curl/8.0", ""),
        ("<script>" * 1000, ""),
    ],
)
def test_what_a_session_is_known_by(agent, words):
    assert describe_user_agent(agent) == words
