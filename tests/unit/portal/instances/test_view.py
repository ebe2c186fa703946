"""How each state is shown, in words and in what can be done."""

from pathlib import Path

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal import CatalogueImage, PortalConfig
from dit4c_p2p.portal.instances import view
from dit4c_p2p.portal.instances.catalogue import arranged_catalogue
from dit4c_p2p.portal.models import Instance

CONFIG = PortalConfig(
    data_folder=Path("data"),
    url="http://localhost:8080",
    addresses=(),
    user_url="http://{id}.localhost:8081/",
    routers=(),
    catalogue=(CatalogueImage("jupyterlab", "JupyterLab", "", "sha256:0"),),
)
KNOWN = arranged_catalogue(CONFIG, [])


def instance(state, **changes):
    fields = {
        "id": "a123456789",
        "owner_id": "ada",
        "name": "JupyterLab",
        "image_name": "jupyterlab",
        "image": "sha256:0",
        "scheduler": "main",
        "key_nonce": "n",
        "state": state,
        "info": "",
        "progress": None,
        "sequence": 1,
        "log_tail": "",
        "answers_on": ["router-main"],
        "created_at": 1.5,
        "changed_at": 2.0,
        "discard_asked_at": None,
    }
    return Instance(**{**fields, **changes})


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_words_and_actions(state):
    shown = view.instance_page_view(instance(state), CONFIG, KNOWN)
    assert shown["word"] and shown["state"] == state.value
    assert (shown["url"] is not None) == (state is State.RUNNING)
    assert ("open" in shown["actions"]) == (shown["url"] is not None)
    assert ("discard" in shown["actions"]) == (state not in (State.DISCARDING, State.DISCARDED))
    assert shown["created"] == "1970-01-01T00:00:01.500Z"


def test_no_url_before_the_listener_has_seen_its_own():
    shown = view.instance_view(instance(State.RUNNING, answers_on=[]), CONFIG)
    assert (shown.url, shown.actions) == (None, ["stop", "discard"])
    assert shown.info == "Its address does not answer yet."


def test_what_was_asked_to_go_can_not_be_opened_or_asked_again():
    shown = view.instance_page_view(instance(State.RUNNING, discard_asked_at=3.0), CONFIG, KNOWN)
    assert (shown["state"], shown["word"]) == ("running", "Discarding")
    assert (shown["url"], shown["actions"], shown["busy"]) == (None, [], True)


def test_what_runs_or_starts_can_be_stopped_and_what_does_not_be_started_where_it_is():
    can = {
        state: set(view.instance_view(instance(state, node="node-home"), CONFIG).actions)
        & {"start", "stop"}
        for state in State
    }
    assert can[State.RUNNING] == can[State.STARTING] == {"stop"}
    assert can[State.EXITED] == can[State.ERRORED] == {"start"}
    assert sum(map(len, can.values())) == 4
    assert "start" not in view.instance_view(instance(State.ERRORED, node=None), CONFIG).actions
    going = instance(State.EXITED, node="node-home", discard_asked_at=1.0)
    assert view.instance_view(going, CONFIG).actions == []


def test_the_log_is_shown_of_what_failed_only():
    for state in State:
        shown = view.instance_page_view(instance(state, log_tail="words"), CONFIG, KNOWN)
        assert bool(shown["log"]) == (state is State.ERRORED)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.CREATED, "starting"),
        (State.STARTING, "starting"),
        (State.RUNNING, "running"),
        (State.STOPPING, "stopped"),
        (State.EXITED, "stopped"),
        (State.ERRORED, "stopped"),
        (State.DISCARDING, "gone"),
        (State.DISCARDED, "gone"),
    ],
)
def test_what_a_router_may_know(state, word):
    assert view.page_state(instance(state, name="Secret"), KNOWN) == {
        "state": word,
        "title": "JupyterLab",
    }
    assert view.page_state(None, KNOWN) == {"state": "unknown", "title": ""}


@pytest.mark.parametrize("said", ["", "Running", "Running."])
def test_what_runs_is_not_said_to_run_twice(said):
    shown = view.instance_page_view(instance(State.RUNNING, info=said), CONFIG, KNOWN)
    assert (shown["word"], shown["info"]) == ("Running", "Ready to use.")
    assert shown["since"] == "1970-01-01T00:00:02Z"
    assert view.instance_page_view(instance(State.STARTING), CONFIG, KNOWN)["since"] == ""
