"""Files that ship with the package: static files, templates, sources of the container images.

A normal install has them as sub-packages (``dit4c_p2p/web``); a checkout and an editable install
have them beside the package (``web/``). Package resources are looked at first.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent
_BESIDE = {"web": "web", "templates": "templates", "image_sources": "helpers"}


def folder(name: str) -> Path:
    """Return the folder of shipped files called ``web``, ``templates`` or ``image_sources``.

    :raises FileNotFoundError: the install is incomplete.
    """
    for candidate in (_PACKAGE / name, _PACKAGE.parent / _BESIDE[name]):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name} is missing from this installation of dit4c-p2p")
