"""A starting pod, told as a play: what helpers say, what time it is, what the user hears."""

import pytest

from dit4c_p2p.messages.pod import HelperState, HelperStatus
from dit4c_p2p.node.errors import NotListening, PodBroken
from dit4c_p2p.node.pods.readiness import ReadinessTracker


@pytest.fixture
def arrival():
    return ReadinessTracker(8888, answers_s=120, publish_s=600, since=1000.0)


def auth(state):
    return HelperStatus(helper="auth", state=state)


def listener(state, detail=""):
    return HelperStatus(helper="listener", state=state, detail=detail)


def test_from_start_to_published(arrival):
    assert arrival.progress().info == "Waiting for the app to listen on port 8888"
    arrival.heard(listener(HelperState.CONNECTING), 1001)
    arrival.heard(auth(HelperState.WAITING_FOR_APP), 1001)
    assert arrival.progress().info == "Waiting for the app to listen on port 8888"
    arrival.heard(auth(HelperState.APP_READY), 1002)
    assert arrival.progress().info == "The app is ready; connecting it to the router"
    arrival.heard(listener(HelperState.CONNECTED), 1003)
    assert arrival.progress().info == "The app is ready; checking its address"
    arrival.heard(listener(HelperState.PUBLISHED), 1004)
    assert arrival.published
    assert arrival.overdue(10_000) is None


def test_an_app_that_never_listens(arrival):
    arrival.heard(auth(HelperState.WAITING_FOR_APP), 1001)
    assert arrival.overdue(1119.9) is None
    assert arrival.left(1100) == 20
    failure = arrival.overdue(1120)
    assert isinstance(failure, NotListening)
    assert "port 8888 within 120 seconds" in str(failure)


def test_silence_of_auth_is_not_blamed_on_the_app(arrival):
    assert isinstance(arrival.overdue(1120), PodBroken)


def test_a_router_that_is_away_is_said_and_waited_for(arrival):
    arrival.heard(listener(HelperState.FAILING, "router-main does not answer"), 1001)
    arrival.heard(auth(HelperState.APP_READY), 1002)
    assert "not reachable yet: router-main does not answer" in arrival.progress().info
    assert arrival.overdue(1600) is None
    failure = arrival.overdue(1602)
    assert isinstance(failure, PodBroken)
    assert "router-main does not answer" in str(failure)
    arrival.heard(listener(HelperState.CONNECTED), 1604)
    assert arrival.progress().info == "The app is ready; checking its address"
