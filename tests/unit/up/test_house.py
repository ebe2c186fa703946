"""The rules of the house, checked by reading it."""

import ast
from pathlib import Path

import dit4c_p2p

PACKAGE = Path(dit4c_p2p.__file__).parent
COMPONENTS = {"portal", "scheduler", "router", "node", "helpers"}
# What a pod's helpers may import: nothing of these gets into their images.
NOT_IN_A_POD = {"tortoise", "jinja2", "aiohttp_jinja2", "aiodocker", "authlib"}


def imports(file):
    """Every module that a file imports, at the top or inside."""
    for item in ast.walk(ast.parse(file.read_text())):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module:
            yield item.module


def modules(*folders):
    return [file for folder in folders for file in (PACKAGE / folder).rglob("*.py")]


def test_a_component_never_imports_another():
    for component in COMPONENTS:
        files = modules(component)
        assert files, component
        for file in files:
            for name in imports(file):
                parts = name.split(".")
                if parts[0] == "dit4c_p2p" and len(parts) > 1 and parts[1] in COMPONENTS:
                    assert parts[1] == component, f"{file} imports {name}"


def test_what_is_shared_knows_no_component():
    # errors.py, backoff.py and atomic_file.py are the files that everything may stand on.
    allowed = {"identity": {"identity", "messages", "errors", "backoff", "atomic_file"},
               "overlay": {"overlay", "identity", "messages", "net", "errors", "backoff"},
               "net": {"net", "errors"},
               "messages": {"messages", "errors"}}  # fmt: skip
    for folder, may in allowed.items():
        for file in modules(folder):
            for name in imports(file):
                parts = name.split(".")
                if parts[0] == "dit4c_p2p":
                    assert parts[1] in may, f"{file} imports {name}"


def test_a_helpers_imports_stay_small():
    for file in modules("helpers", "identity", "overlay", "messages"):
        for name in imports(file):
            assert name.split(".")[0] not in NOT_IN_A_POD, f"{file} imports {name}"


def test_host_keys_are_checked_everywhere():
    """security.md section 2 row 1: there is no switch to turn the check off."""
    root = PACKAGE.parent
    places = [PACKAGE, root / "scripts", root / "helpers"]
    files = [f for place in places for f in place.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    assert len(files) > 50
    for file in files:
        text = file.read_text(errors="replace").replace(" ", "")
        for forbidden in ("known_hosts=None", "StrictHostKeyCheckingno", "StrictHostKeyChecking=no",
                          "verify_ssl=False", "ssl=False"):  # fmt: skip
            assert forbidden not in text, f"{file}: {forbidden}"
