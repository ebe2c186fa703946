"""Who follows docs/install.md: types its commands and writes its files, on machines of a test."""

import re
import shutil
from pathlib import Path
from typing import Protocol

from lib.certificates import Authority
from lib.install_guide import Typed, sections
from lib.paths import ROOT

CA = "/etc/dit4c/ca.pem"
# On the machines of the test nothing is fetched: what a build needs is there already.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_CACHE_DIR": "1"}


class Machine(Protocol):
    """One of them, as who sits there needs it."""

    name: str

    def run(self, command: str, *, check: bool = True, timeout: float = 0) -> str:
        """A line typed at root's prompt; what it has printed, errors too."""

    def write(self, path: str, text: str) -> None:
        """A file there, as an editor makes it."""

    def wait_said(self, unit: str, words: str, *, timeout: float = 0) -> None:
        """Until a service has written these words."""


class Luggage:
    """What a newcomer brings along to machines that have the folder ``opt`` as their ``/opt``.

    :ivar source: what they clone.
    :ivar authority: which gives them certificates.
    """

    def __init__(self, folder: Path) -> None:
        self.source, self.opt = folder / "source", folder / "opt"
        left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
        shutil.copytree(ROOT, self.source, ignore=left_out)
        self.opt.mkdir()
        self.authority = Authority(folder / "authority")

    def share_packages(self) -> None:
        """The packages that pip would fetch are the tests' own, for the environment in /opt."""
        site = next(self.opt.glob("dit4c/lib/python3.*/site-packages"))
        (site / "tests.pth").write_text('import sys; sys.path.insert(1, "/mnt/packages")\n')

    def issue(self, machine: Machine, name: str) -> None:
        """What an authority will give to who shows that the name is theirs."""
        for file, content in zip(
            ("fullchain.pem", "privkey.pem"), self.authority.pem(name), strict=True
        ):
            machine.write(f"/mnt/issued/{name}/{file}", content.decode())


class Newcomer:
    """Follows the page: ``type`` types its commands on a machine, with what it says to replace.

    :param portal: the machine of the portal.
    """

    def __init__(self, luggage: Luggage, portal: Machine) -> None:
        self.luggage = luggage
        self.portal = portal
        self.page = sections()
        self.portal_key = ""

    def type(self, machine: Machine, commands: list[Typed], **replaced: str) -> str:
        """Type commands; what the last of them has printed."""
        printed = ""
        for one in commands:
            line = one.command
            for what, by in replaced.items():
                line = line.replace(what, by)
            assert "…" not in line and "<this" not in line, line
            print(f"{machine.name}# {line}")  # for who reads of a failure
            printed = machine.run(line)
            if not replaced:
                one.check(printed)
        return printed

    def edit(self, machine: Machine, title: str, path: str) -> None:
        """Write a file of the page, with the portal's key and the test's authority."""
        text = self.page[title].files[path]
        if "[portal]" in text:
            text, keys = re.subn(r'key = "ssh-.*"', f'key = "{self.portal_key}"', text)
            assert keys == 1
            text = text.replace("[portal]\n", f'[portal]\nca_file = "{CA}"\n')
        machine.write(path, text)

    def install(self, machine: Machine) -> None:
        """Steps 2 and 3's authority of one's own. The first machine's /opt is everybody's."""
        for one in self.page["The program, on each machine"].commands:
            makes_opt = "-m venv /opt" in one.command or "/bin/pip" in one.command
            if makes_opt and (self.luggage.opt / "installed").exists():
                continue
            self.type(machine, [one], **{"<this repository>": "https://git.example/dit4c"})
            if "-m venv" in one.command:
                self.luggage.share_packages()
        (self.luggage.opt / "installed").touch()
        machine.write(CA, self.luggage.authority.file.read_text())
        where = machine.run("/opt/dit4c/bin/python -c 'import dit4c_p2p; print(dit4c_p2p)'")
        assert "/opt/dit4c/" in where

    def publish(self, machine: Machine, kind: str, id: str) -> None:
        """Step 6 for any peer."""
        challenge, prove, add = self.page["Publishing a peer's key"].commands

        def of(one: Typed, said: str) -> Typed:
            command = re.sub(r"\brouter r1\b", f"{kind} {id}", one.command)
            if one is prove:
                command = command.replace("router", kind)
            shown = tuple(line.replace("router-r1", f"{kind}-{id}") for line in one.shown)
            shown = tuple(line.replace("dit4c router", f"dit4c {kind}") for line in shown)
            return Typed(re.sub(r"dit4c-(nonce|proof):…", said, command), shown)

        nonce = self.type(self.portal, [of(challenge, "")]).split()[-1]
        proof = re.search(r"dit4c-proof:\S+", self.type(machine, [of(prove, nonce)]))
        assert proof is not None
        self.type(self.portal, [of(add, proof[0])])
        machine.wait_said(f"dit4c-{kind}", f"{kind}-{id} is up")
