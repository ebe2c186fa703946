"""Find or start this machine's Docker engine, and build the container images.

``ensure_images`` is what ``dit4c up`` calls; scripts run ``python -m dit4c_p2p.imagebuild``. Plain
Debian is the root of all images; each further image is built from a folder of ``helpers/`` and only
when what goes into it has changed.
"""

from dit4c_p2p.imagebuild.build import BuildFailed
from dit4c_p2p.imagebuild.disk import DiskFull
from dit4c_p2p.imagebuild.docker_daemon import DockerDaemon, ensure_engine, find_engine
from dit4c_p2p.imagebuild.ensure import (
    CatalogueImage,
    Images,
    default_cache_folder,
    ensure_images,
)
from dit4c_p2p.imagebuild.load import LoadedImage, LoadFailed, load_images, tools_of_loaded_images
from dit4c_p2p.imagebuild.progress import Progress, TerminalProgress
from dit4c_p2p.imagebuild.recipes import choose_tools
from dit4c_p2p.oci.archive import CutOff, NotAnArchive

__all__ = [
    "BuildFailed",
    "CatalogueImage",
    "CutOff",
    "DiskFull",
    "DockerDaemon",
    "Images",
    "LoadFailed",
    "LoadedImage",
    "NotAnArchive",
    "Progress",
    "TerminalProgress",
    "choose_tools",
    "default_cache_folder",
    "ensure_engine",
    "ensure_images",
    "find_engine",
    "load_images",
    "tools_of_loaded_images",
]
