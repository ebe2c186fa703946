"""The rules of the house, checked by reading it."""

import ast
from pathlib import Path

from lib.module_map import PAGE, page_with_modules
from lib.paths import ROOT

import dit4c_p2p

PACKAGE = Path(dit4c_p2p.__file__).parent
COMPONENTS = {"portal", "scheduler", "router", "node", "fileserver", "imageserver", "helpers"}
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
               "messages": {"messages", "errors"},
               "sftp": {"sftp", "errors"}}  # fmt: skip
    for folder, may in allowed.items():
        for file in modules(folder):
            for name in imports(file):
                parts = name.split(".")
                if parts[0] == "dit4c_p2p":
                    assert parts[1] in may, f"{file} imports {name}"


def test_a_helpers_imports_stay_small():
    for file in modules("helpers", "identity", "overlay", "messages", "sftp"):
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


def test_unit_tests_mirror_the_source():
    """A unit test stands at the path of the file or folder that it tests.

    ``dit4c_p2p/net/tls.py`` is tested by ``tests/unit/net/test_tls.py``, a further aspect of it by
    ``test_tls_<aspect>.py``; tests of several files stand in ``tests/scenarios``.
    """
    unit = ROOT / "tests" / "unit"
    astray = []
    for file in unit.rglob("test_*.py"):
        folder = PACKAGE / file.parent.relative_to(unit)
        name = file.stem.removeprefix("test_")
        sources = (
            {source.stem for source in folder.glob("*.py")}
            | {source.name for source in folder.iterdir() if (source / "__init__.py").is_file()}
            if folder.is_dir()
            else set()
        )
        if not any(name == source or name.startswith(f"{source}_") for source in sources):
            astray.append(str(file.relative_to(ROOT)))
    assert astray == []


def test_no_import_circle():
    """Imports at the top of modules form no circle; those inside functions wait until they run."""
    files = {}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        files[module.removesuffix(".__init__")] = file
    graph = {}
    for module, file in files.items():
        found = set()
        for item in ast.parse(file.read_text()).body:
            if isinstance(item, ast.Import):
                found |= {alias.name for alias in item.names}
            elif isinstance(item, ast.ImportFrom) and item.module:
                for alias in item.names:
                    part = f"{item.module}.{alias.name}"
                    found.add(part if part in files else item.module)
        graph[module] = found
    checked, open_ = set(), []

    def visit(module):
        if module in open_:
            raise AssertionError("circle: " + " -> ".join([*open_[open_.index(module) :], module]))
        if module in checked or module not in graph:
            return
        open_.append(module)
        for other in sorted(graph[module]):
            visit(other)
        open_.pop()
        checked.add(module)

    for module in sorted(graph):
        visit(module)


def test_no_file_is_longer_than_500_lines():
    # The tables of the portal stand in one module, as their migrations are made from it.
    exempt = {"portal/models.py"}
    lengths = {
        str(file.relative_to(PACKAGE)): len(file.read_text().splitlines())
        for file in PACKAGE.rglob("*.py")
        if "migrations" not in file.parts
    }
    assert {name for name, lines in lengths.items() if lines > 500} <= exempt


def test_aiodockers_private_method_is_used_in_one_place():
    users = [file for file in PACKAGE.rglob("*.py") if "._query(" in file.read_text()]
    assert users == [PACKAGE / "engine_api.py"]


def test_the_architecture_page_lists_every_module():
    page = PAGE.read_text(encoding="utf-8")
    command = "PYTHONPATH=tests python tests/lib/module_map.py --write"
    assert page == page_with_modules(page), f"run {command}"
