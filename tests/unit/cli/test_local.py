"""``dit4c down`` asks before it does away with anybody's work."""

import pytest

from dit4c_p2p.cli import main
from dit4c_p2p.node import agent
from dit4c_p2p.node.owner import inventory
from dit4c_p2p.node.owner.inventory import FoundInstance


@pytest.fixture
def done(monkeypatch):
    """What was done; two instances are there."""
    acts = []

    async def listed(folder, engine):
        return [FoundInstance("abc", "Up 2 hours"), FoundInstance("xyz", "")]

    async def removed(folder, engine):
        acts.append("removed")
        return ["abc", "xyz"]

    async def stopped(folder, engine):
        acts.append("stopped")
        return ["abc", "xyz"]

    monkeypatch.setattr(inventory, "list_instances_on_machine", listed)
    monkeypatch.setattr(inventory, "stop_all_pods_on_machine", stopped)
    monkeypatch.setattr(agent, "remove_everything_of_node", removed)
    return acts


def answer(monkeypatch, text):
    """Somebody is at the terminal, and says this."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: text)


@pytest.mark.parametrize(
    ("said", "options", "acts"),
    [
        ("y", [], ["removed"]),
        ("YES ", [], ["removed"]),
        ("", [], []),
        ("n", [], []),
        ("what?", ["--keep"], []),
        ("y", ["--keep"], ["stopped"]),
    ],
)
def test_it_lists_and_asks(done, monkeypatch, capsys, tmp_path, said, options, acts):
    answer(monkeypatch, said)
    status = main(["down", *options, "--data-dir", str(tmp_path)])
    text = capsys.readouterr().out
    assert "abc  Up 2 hours" in text
    assert "xyz  without an app" in text
    assert done == acts
    assert status == (0 if acts else 1)
    assert ("Nothing was done." in text) == (not acts)


def test_where_nobody_can_be_asked_nothing_is_done(done, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["down", "--data-dir", str(tmp_path)]) == 1
    assert "2 instances would be removed, with all files. Say --yes" in capsys.readouterr().err
    assert done == []
    assert main(["down", "--yes", "--data-dir", str(tmp_path)]) == 0
    assert done == ["removed"]
