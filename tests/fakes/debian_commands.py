#!/usr/bin/python3
"""On a machine of a test: what a Debian has that its namespaces can't have. It goes by its name.

- ``apt-get``     everything is installed; a Docker engine starts with its package
- ``git``         clones are copies of the source that is being tested
- ``certbot``     the authority is the test's: it has left the certificates in a folder
- ``systemctl``   reads the units that are there: user, capabilities, folders, command
- ``journalctl``  what they have written

Nothing but Debian's Python is needed.
"""

import configparser
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
LOGS = Path("/var/log")
ISSUED = Path("/mnt/issued")
LETSENCRYPT = Path("/etc/letsencrypt")
END_S = 20


def apt_get(*words):
    if "docker.io" in words:
        start("docker", ["dockerd"], {})
        end = time.monotonic() + END_S
        while subprocess.run(["docker", "info"], capture_output=True).returncode:
            if time.monotonic() > end:
                sys.exit((LOGS / "docker.log").read_text())
            time.sleep(0.1)


def git(*words):
    match words:
        case ("clone", _, folder) | ("-C", folder, "pull"):
            shutil.copytree("/mnt/source", folder, dirs_exist_ok="pull" in words)
        case _:
            sys.exit(f"git {words}?")


def certbot(*words):
    if words[0] != "certonly" or "--dns-rfc2136" not in words:
        sys.exit(f"certbot {words}?")
    name = words[words.index("-d") + 1]
    live = LETSENCRYPT / "live" / name.removeprefix("*.")
    live.mkdir(parents=True, mode=0o700)
    (LETSENCRYPT / "renewal-hooks/deploy").mkdir(parents=True, exist_ok=True)
    for file in ("fullchain.pem", "privkey.pem"):
        shutil.copy(ISSUED / name / file, live / file)


def journalctl(option, unit):
    if option != "-u":
        sys.exit(f"journalctl {option}?")
    print((LOGS / f"{unit}.log").read_text(), end="")


def systemctl(action, *words):
    units = [word for word in words if word != "--now"]
    if action == "daemon-reload" and not units:
        return
    wanted = ("enable", "disable") if "--now" in words else ("start", "stop", "restart")
    if action not in wanted:
        sys.exit(f"systemctl {action} {words}?")
    for unit in units:
        if action in ("disable", "stop", "restart"):
            stop(unit)
        if action in ("enable", "start", "restart"):
            start_unit(unit)


def start_unit(unit):
    # systemd's files repeat names, and the last one counts for all that is looked at here.
    read = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    read.optionxform = str
    with (UNITS / f"{unit}.service").open() as file:
        read.read_file(file)
    service = read["Service"]
    user = pwd.getpwnam(service["User"])
    for name, base in (("StateDirectory", "/var/lib"), ("CacheDirectory", "/var/cache")):
        if name in service:
            folder = Path(base, service[name])
            folder.mkdir(exist_ok=True)
            folder.chmod(int(service.get(f"{name}Mode", "0755"), 8))
            os.chown(folder, user.pw_uid, user.pw_gid)
    extra = service.get("SupplementaryGroups", "")
    ambient = service.get("AmbientCapabilities", "").lower().replace("cap_", "+")
    bounding = service.get("CapabilityBoundingSet", "").lower().replace("cap_", "+")
    drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    drop += [f"--groups={group_id(extra)}"] if extra else ["--clear-groups"]
    drop += ["--bounding-set", ",".join(filter(None, ["-all", bounding]))]
    if ambient:
        drop += ["--inh-caps", ambient, "--ambient-caps", ambient]
    if service.get("NoNewPrivileges") == "yes":
        drop += ["--no-new-privs"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        **dict([service["Environment"].split("=", 1)] if "Environment" in service else ()),
    }
    start(unit, [*drop, *service["ExecStart"].split()], environment, int(service["UMask"], 8))


def group_id(name):
    import grp

    return grp.getgrnam(name).gr_gid


def start(unit, command, environment, umask=0o022):
    with (LOGS / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            env=environment or dict(os.environ),
            umask=umask, start_new_session=True,
        )  # fmt: skip
    Path(f"/run/{unit}.main").write_text(str(process.pid))


def stop(unit):
    """As ``KillSignal=`` and ``TimeoutStopSec=`` have it."""
    main = Path(f"/run/{unit}.main")
    pid = int(main.read_text())
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + END_S
    while running(pid):
        if time.monotonic() > end:
            sys.exit(f"{unit} does not stop")
        time.sleep(0.05)
    main.unlink()


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name.replace("-", "_")](*sys.argv[1:])
