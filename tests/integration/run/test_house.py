"""The house of these tests leaves no process behind, whichever way a test fails."""

import subprocess

import pytest
from systems import four_processes
from systems.four_processes import House

DEAF = 'trap "" TERM; echo deaf; exec sleep 1000'


def test_all_are_ended_also_one_that_does_not_listen(tmp_path, monkeypatch):
    monkeypatch.setattr(four_processes, "ENDS_S", 0.1)
    monkeypatch.setattr(four_processes, "STOP_S", 0.1)
    house = House(tmp_path)
    started = []
    for kind in ("router", "scheduler"):
        house.log(kind).touch()
        started.append(subprocess.Popen(["sh", "-c", DEAF], stdout=subprocess.PIPE))
        house.processes[kind] = started[-1]
    for process in started:
        assert process.stdout.readline() == b"deaf\n"
    with pytest.raises(subprocess.TimeoutExpired):
        house.ended("scheduler")
    with pytest.raises(AssertionError, match="router: -9"):
        house.stop_all()
    for process in started:
        assert process.poll() == -9
        process.stdout.close()
