"""scripts/up and scripts/test: quick when nothing has changed, one line when something is amiss."""

import asyncio
import shutil
from pathlib import Path

import pytest
from lib.paths import ROOT


class Bash:
    """A copy of the scripts in a project of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "scripts", root / "scripts")
        for name in ("pyproject.toml", "setup.py"):
            shutil.copy(ROOT / name, root)

    async def run(self, script: str) -> tuple[int, str, str]:
        """Exit status, output and errors of ``script``, run in the project with lib.sh sourced."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"set -euo pipefail\nsource scripts/lib.sh\n{script}"),
            cwd=self.root,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def program(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def bash(tmp_path: Path) -> Bash:
    return Bash(tmp_path / "a project")


async def test_the_first_python_that_fits_is_taken(bash: Bash) -> None:
    bash.program("old", "exit 1")
    bash.program("new", "exit 0")
    status, out, _ = await bash.run("PYTHONS=(no-such ./old ./new python3); find_python")
    assert (status, out) == (0, "./new\n")


async def test_without_a_python_it_says_so_in_a_line(bash: Bash) -> None:
    status, out, err = await bash.run("PYTHONS=(no-such); python=$(find_python); echo not here")
    assert (status, out) == (1, "")
    assert err == "error: Python 3.11 or newer is needed: install it (python3) and try again\n"


async def test_without_venv_it_says_what_to_install(bash: Bash) -> None:
    bash.program("bare", "case $2 in *ensurepip*) exit 1 ;; esac")
    status, _, err = await bash.run("on_debian() { return 1; }; PYTHONS=(./bare); find_python")
    assert status == 1
    assert err.count("\n") == 1
    assert "apt-get install python3-venv" in err


async def test_a_step_that_fails_shows_the_end_of_what_it_said(bash: Bash) -> None:
    status, out, err = await bash.run("run_step Counting sh -c 'seq 100; exit 7'; echo not here")
    assert (status, out) == (1, "")
    assert err.startswith("Counting: …\n86\n")
    assert err.endswith("100\nerror: Counting failed; what it said is above\n")


async def test_ctrl_c_in_a_step_is_no_failure_of_it(bash: Bash) -> None:
    step = "sh -c 'kill -INT 0; sleep 60'"
    (bash.root / "begin").write_text(f"source scripts/lib.sh\nrun_step Counting {step}\n")
    status, out, err = await bash.run("setsid --wait bash begin")
    assert (status, out) == (130, "")
    assert err == "Counting: …\n\nCounting: interrupted\n"


async def test_a_step_leaves_the_scripts_own_trap_in_place(bash: Bash) -> None:
    _, out, _ = await bash.run("trap 'exit 7' INT; run_step Counting true; trap -p INT")
    assert out == "trap -- 'exit 7' SIGINT\n"


async def test_a_step_that_works_is_two_lines(bash: Bash) -> None:
    status, out, err = await bash.run("run_step Counting seq 100")
    assert (status, out) == (0, "")
    assert err == "Counting: …\nCounting: done (0 s)\n"


@pytest.mark.parametrize("outcome", [0, 100])
async def test_services_may_start_again_after_packages_were_installed(
    bash: Bash, outcome: int
) -> None:
    policy = bash.root / "policy-rc.d"
    bash.program(
        "bin/apt-get", f'[ "$1" = update ] || {{ sh "$POLICY"; echo "$? $*"; exit {outcome}; }}'
    )
    script = "export POLICY=$PWD/policy-rc.d PATH=$PWD/bin:$PATH; install_debian_packages one two"
    status, out, _ = await bash.run(script)
    assert (status, out) == (outcome, "101 install -qy --no-install-recommends one two\n")
    assert not policy.exists()


async def test_a_policy_of_the_machines_own_is_kept(bash: Bash) -> None:
    bash.program("bin/apt-get", "exit 0")
    bash.program("policy-rc.d", "exit 104")
    script = "export POLICY=$PWD/policy-rc.d PATH=$PWD/bin:$PATH; install_debian_packages one"
    assert await bash.run(script) == (0, "", "")
    assert "exit 104" in (bash.root / "policy-rc.d").read_text()


async def test_up_hands_its_arguments_on_and_installs_nothing_twice(bash: Bash) -> None:
    bash.program(".venv/bin/dit4c", 'printf "<%s>" "$@"')
    for extras in ("", "test"):
        # An installation for the tests is good for all else.
        await bash.run(f"installed_stamp '{extras}' >.venv/installed")
        assert await bash.run("exec scripts/up --data-dir 'a b'") == (
            0,
            "<up><--data-dir><a b>",
            "",
        )


@pytest.mark.parametrize(
    "change",
    [
        "echo >>pyproject.toml",
        "echo >>setup.py",
        "rm .venv/installed",
        "rm .venv/bin/dit4c",
        "installed_stamp other >.venv/installed",
        "sed -i 2s,^,/moved, .venv/installed",
    ],
)
async def test_installed_again_when_something_has_changed(bash: Bash, change: str) -> None:
    bash.program(".venv/bin/dit4c", "")
    check = "is_installed test .venv/installed"
    status, _, err = await bash.run(f"installed_stamp test >.venv/installed; {check}")
    assert (status, err) == (0, "")
    status, _, _ = await bash.run(f"{change}; {check}")
    assert status == 1
