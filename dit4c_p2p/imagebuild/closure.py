"""Find the modules of this package that a program needs, by reading its imports.

A pod's helper gets only these modules, so that its image changes only when they change.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from dit4c_p2p.errors import DitError

_PYTHON = frozenset({".py", ".pyc"})


class MissingModule(DitError):
    """A program of this package is not part of this installation."""

    code = "missing_module"


def files_needed_by_program(program: str, packages: Path) -> tuple[str, ...]:
    """Return the files that ``python -m program`` needs, relative to ``packages``, sorted.

    ``packages`` is the folder that holds the program's top package; imports of other packages are
    not followed. If the program is a package, its files that are not Python come along.

    :raises MissingModule: there is no such program, or it imports a module that is not there.
    """
    top = program.partition(".")[0]
    found: dict[str, Path] = {}
    main = f"{program}.__main__"
    waiting = [program if _locate_module(main, packages) is None else main]
    while waiting:
        module = waiting.pop()
        if module in found or module.partition(".")[0] != top:
            continue
        path = _locate_module(module, packages)
        if path is None:
            raise MissingModule(f"{module} is missing from this installation of dit4c-p2p")
        found[module] = path
        waiting.extend(_ancestor_packages(module))
        waiting.extend(_imported_modules(module, path, packages))
    files = set(found.values())
    if main in found:
        beside = found[main].parent.rglob("*")
        files.update(path for path in beside if path.is_file() and path.suffix not in _PYTHON)
    return tuple(sorted(str(path.relative_to(packages)) for path in files))


def _locate_module(module: str, packages: Path) -> Path | None:
    base = packages.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if candidate.is_file():
            return candidate
    return None


def _ancestor_packages(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _imported_modules(module: str, path: Path, packages: Path) -> Iterator[str]:
    """Yield every module that ``module`` imports when it runs, at its top or later."""
    is_package = path.name == "__init__.py"
    for node in _running_nodes(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute_module(node, module, is_package)
            yield source
            # ``from package import name`` imports a module if there is one of that name.
            names = (f"{source}.{alias.name}" for alias in node.names)
            yield from (name for name in names if _locate_module(name, packages) is not None)


def _absolute_module(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Return the module that a ``from … import`` names, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those under ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for otherwise in child.orelse:
                yield otherwise
                yield from _running_nodes(otherwise)
            continue
        yield child
        yield from _running_nodes(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
