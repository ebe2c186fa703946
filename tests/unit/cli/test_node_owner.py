"""``dit4c node status|pause|resume|drain|stop`` with a stand-in for the engine."""

import pytest

from dit4c_p2p.cli import main, node_owner
from dit4c_p2p.node.owner import inventory
from dit4c_p2p.node.owner.inventory import FoundInstance
from dit4c_p2p.node.owner.pause import is_paused


@pytest.fixture
def machine(tmp_path, monkeypatch, capsys):
    """Run an action; ``here`` is what the engine lists, one list for each look, the last stays."""

    class Machine:
        here = [[FoundInstance("abc", "Up 2 hours"), FoundInstance("def", "Exited (0)")]]
        stopped = 0

        def run(self, *arguments, status=0):
            assert main(["node", *arguments, "--data-dir", str(tmp_path)]) == status
            return capsys.readouterr()

        @property
        def paused(self):
            return is_paused(tmp_path / "node")

    found = Machine()

    async def listed(folder, engine):
        assert folder == tmp_path
        return found.here.pop(0) if len(found.here) > 1 else found.here[0]

    async def stop(folder, engine):
        found.stopped += 1
        return ["abc"]

    monkeypatch.setattr(inventory, "list_instances_on_machine", listed)
    monkeypatch.setattr(inventory, "stop_all_pods_on_machine", stop)
    monkeypatch.setattr(node_owner, "_LOOK_EVERY_S", 0)
    return found


def test_status_pause_and_resume(machine):
    said = machine.run("status").out
    assert "It takes instances." in said
    assert "abc  Up 2 hours" in said
    assert "2 here, 1 of them running." in said
    for _ in range(2):
        assert "nothing starts" in machine.run("pause").out
        assert machine.paused
    assert "Paused" in machine.run("status").out
    for _ in range(2):
        machine.run("resume")
        assert not machine.paused


def test_drain_waits_until_nothing_runs(machine):
    machine.here = [[FoundInstance("abc", "Up 2 hours")], [FoundInstance("abc", "Up 2 hours")], []]
    said = machine.run("drain")
    assert said.err.count("Still running: abc") == 1
    assert "Nothing runs here" in said.out
    assert (machine.paused, machine.stopped) == (True, 0)


def test_drain_stops_what_is_left_after_its_time(machine):
    assert "files are kept" in machine.run("drain", "--minutes", "0").out
    assert (machine.paused, machine.stopped) == (True, 1)


def test_stop_is_asked_about(machine, capsys):
    machine.run("stop", status=1)
    assert (machine.paused, machine.stopped) == (False, 0)
    machine.run("stop", "--yes")
    assert (machine.paused, machine.stopped) == (True, 1)


def test_a_folder_that_is_not_there_is_said(capsys):
    assert main(["node", "pause", "--data-dir", "/nowhere"]) == 1
    assert "there is no folder /nowhere" in capsys.readouterr().err
