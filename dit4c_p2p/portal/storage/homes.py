"""The home file server and the quota of each tree: one server for a person's or a group's files.

The first file server of the configuration becomes the home of a tree when it is first asked for. An
admin may choose another; that moves no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import StorageTree

_GROUP = "group-"
_USER = "user-"
# Far beyond any disk, and within what every database and JSON reader takes for a whole number.
MAX_QUOTA_BYTES = 2**52


@dataclass(frozen=True)
class Defaults:
    """What counts for a tree for which no admin has chosen; a quota of None is no limit."""

    servers: Sequence[FileServerInfo]
    person_quota_bytes: int | None
    group_quota_bytes: int | None

    def quota_bytes(self, tree: str) -> int | None:
        """How much a tree may hold."""
        return self.group_quota_bytes if tree.startswith(_GROUP) else self.person_quota_bytes

    @property
    def server(self) -> str | None:
        """The id of the home of new trees; None: there is no file server."""
        return PeerName.parse(self.servers[0].name).id if self.servers else None


@dataclass(frozen=True)
class Home:
    """Where a tree is (the id of a file server, None: nowhere yet), and how much it may hold."""

    tree: str
    server: str | None
    quota_bytes: int | None
    chosen_quota: bool


def tree_of_person(person: str) -> str:
    """The name of a person's tree."""
    return f"{_USER}{person}"


def tree_of_group(group: str) -> str:
    """The name of a group's tree."""
    return f"{_GROUP}{group}"


async def homes(trees: Iterable[str], defaults: Defaults) -> dict[str, Home]:
    """The homes of trees; those without one get the default, which is written down."""
    wanted = list(dict.fromkeys(trees))
    rows = {row.name: row for row in await StorageTree.filter(name__in=wanted)}
    found = {}
    for tree in wanted:
        row = rows.get(tree)
        if defaults.server is not None and (row is None or row.server is None):
            row, _ = await StorageTree.get_or_create(
                name=tree, defaults={"server": defaults.server}
            )
            if row.server is None:
                row.server = defaults.server
                await row.save(update_fields=["server"])
        chosen = row.quota_bytes if row else None
        found[tree] = Home(
            tree,
            row.server if row else None,
            defaults.quota_bytes(tree) if chosen is None else chosen,
            chosen is not None,
        )
    return found


async def set_quota(tree: str, quota_bytes: int | None) -> None:
    """Choose how much a tree may hold, in the caller's transaction.

    :param quota_bytes: None: what the settings say.
    :raises BadRequest: negative, or too large for a number of bytes.
    """
    if quota_bytes is not None and not 0 <= quota_bytes <= MAX_QUOTA_BYTES:
        raise BadRequest("a quota is between 0 and 4 PiB", field="quota")
    row, _ = await StorageTree.get_or_create(name=tree)
    row.quota_bytes = quota_bytes
    await row.save(update_fields=["quota_bytes"])


async def set_server(tree: str, server: str, defaults: Defaults) -> None:
    """Choose a tree's home file server, in the caller's transaction; no file is moved.

    :raises BadRequest: there is no such file server.
    """
    name = f"{Kind.FILESERVER}-{server}"
    if name not in {info.name for info in defaults.servers}:
        known = ", ".join(PeerName.parse(info.name).id for info in defaults.servers) or "none"
        raise BadRequest(
            f"there is no file server called {server[:60]!r}",
            field="server",
            hint=f"file servers are: {known}",
        )
    row, _ = await StorageTree.get_or_create(name=tree)
    row.server = server
    await row.save(update_fields=["server"])
