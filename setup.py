"""The parts of the package that live at the top level, beside ``dit4c_p2p/``.

Everything declarative is in pyproject.toml. ``package_dir`` can't be said per package there, so
the static files, the templates and the image sources become sub-packages of ``dit4c_p2p`` here.
An editable install ignores this mapping; :mod:`dit4c_p2p.resources` looks in both places.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MAPPED = {
    "dit4c_p2p.web": "web",
    "dit4c_p2p.templates": "templates",
    "dit4c_p2p.image_sources": "helpers",
}


def files_below(folder: str) -> list[str]:
    """Every file below a top-level folder, relative to it."""
    base = ROOT / folder
    return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())


setup(
    packages=[*find_packages(include=["dit4c_p2p", "dit4c_p2p.*"]), *MAPPED],
    package_dir=MAPPED,
    package_data={package: files_below(folder) for package, folder in MAPPED.items()},
)
