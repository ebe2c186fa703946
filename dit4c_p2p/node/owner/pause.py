"""Pause of a node by its owner: what runs goes on, and nothing starts. Kept in a file, so that it
outlives the agent and can be set while none runs.
"""

from pathlib import Path

from dit4c_p2p.atomic_file import write_whole

_FILE = "paused"


def is_paused(node_folder: Path) -> bool:
    """Whether the owner has paused the node whose agent keeps its files in this folder."""
    return (node_folder / _FILE).exists()


def set_paused(node_folder: Path, paused: bool) -> None:
    """Pause the node, or have it take instances again; again changes nothing.

    :raises NotWritten: the folder can't be written to.
    """
    if paused:
        node_folder.mkdir(parents=True, exist_ok=True)
        write_whole(node_folder / _FILE, b"by its owner\n")
    else:
        (node_folder / _FILE).unlink(missing_ok=True)
