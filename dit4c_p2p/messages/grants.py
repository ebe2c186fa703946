"""Portal → file server: whose files a peer sees. File server → portal: a key has logged in.

Every request has ``Authorization: Bearer <JWT signed by the file server's key>``. A file server is
told of the trees alone that it is the home of. Another kind of caller gets 403.

GET  /instances/{id}/creator                    → :class:`Creator`
GET  /instances/{id}/grants                     → :class:`Grants` of an instance
GET  /users/{id}/grants                         → :class:`Grants` of a person
GET  /grants/events                             → server-sent events, each a :class:`GrantEvent`
POST /users/{id}/ssh-keys/{fingerprint}/proved  → 204 (the JWT is used once)

Unknown ids are answered with 404. That is never a reason to delete anything.

**Trees.** A tree belongs to a person (``user-<id>``) or to a group (``group-<id>``). It has one
home file server, one quota and one lease manager. In a person's tree ``folder`` is ``private`` or
``instances/<instance>``; in a group's tree it is empty, for the whole tree.

**Paths.** ``path`` is where a client finds the folder, below the root that it sees:

    an instance:  private   instance   shared/<group>
    a person:     private   instances/<instance>   shared/<group>

**The file page.** The portal logs in at a file server as ``portal-<id>`` with its published key, as
any peer does. For each person it opens a session channel, sets the environment variable
:data:`ACTS_FOR` of the channel to the person's peer name (``user-<id>``), and starts the ``sftp``
subsystem. The session then sees what ``GET /users/<id>/grants`` says. A session of the portal that
names nobody is refused.

**User keys.** ``GET /users/<id>/ssh-keys`` lists proved keys and pending ones. After a login as
``user-<id>`` the file server POSTs the key's fingerprint to ``…/proved``: the first person whose
login proves the key becomes its holder. Saying so again changes nothing; 409 means that somebody
else holds the key by now, and the connection has to end.
"""

from dit4c_p2p.messages.codec import Record

ACTS_FOR = "DIT4C_ACTS_FOR"
# A listener that hears nothing for this long fetches again all grants that it relies on.
GRANTS_SILENCE_S = 5.0
GRANTS_HEARTBEAT_S = 2.0


class Creator(Record, frozen=True):
    """Who created an instance: the person's peer name, ``user-<id>``."""

    instance: str
    user: str


class FolderGrant(Record, frozen=True):
    """A folder that the peer sees at ``path``, which is ``folder`` of ``tree``; see above."""

    path: str
    tree: str
    folder: str
    write: bool


class TreeQuota(Record, frozen=True):
    """How much a tree may hold, in bytes over all of its folders; None: no limit."""

    tree: str
    bytes: int | None


class Grants(Record, frozen=True):
    """What a peer sees. ``peer`` is its name. ``quotas`` has an entry for each tree in ``folders``.

    Neither ``folders`` nor ``quotas`` lists a tree whose home is another file server. No folder:
    the peer may not come in.

    ``ends_at`` is when the grants end, in seconds since 1970; None: when the portal says so.

    ``delete_after`` is set for a discarded instance: from then on the file server removes the
    instance's folder. None: the folder is kept.
    """

    peer: str
    folders: list[FolderGrant] = []
    quotas: list[TreeQuota] = []
    ends_at: float | None = None
    delete_after: float | None = None


class GrantEvent(Record, frozen=True):
    """The grants of ``peers`` have changed, or may have. An empty list is a heartbeat.

    The first event of a stream is a heartbeat: from then on every change is told. Whoever connects
    again fetches all grants that it relies on. ``all`` says that any grant may have changed.
    """

    peers: list[str] = []
    all: bool = False
