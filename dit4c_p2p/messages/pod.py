"""What a node agent gives to a pod's helpers, and what they say back.

The agent puts two files into the pod's private volume, mounted in ``listener`` and ``auth`` only,
at :data:`POD_FOLDER`: ``config.json`` (a :class:`PodConfig`) and ``key`` (the instance's private
key, an OpenSSH PEM, mode 0600, owned by :data:`HELPER_UID`). The auth helper makes ``auth.sock``
there.

Each helper says how it is doing by writing a :class:`HelperStatus` as a line of JSON to its
standard output, which the agent follows; its log goes to standard error.
"""

from enum import StrEnum

from dit4c_p2p.messages.codec import Record, Strict
from dit4c_p2p.messages.public import FileServerInfo, PortalInfo, RouterInfo
from dit4c_p2p.messages.registry import EndedAccess

POD_FOLDER = "/run/dit4c"
HELPER_UID = 10001

# The storage helper listens at :data:`MOUNT_SOCKET` for the descriptor of a FUSE mount, which the
# mount container sends it (SCM_RIGHTS, with the one byte ``M``); it answers with the byte ``S``
# once it serves the mount.
MOUNT_SOCKET = "/run/dit4c-mount/socket"
# Where the app sees its user's files.
FILES_FOLDER = "/mnt"
# Where the mount container mounts them: a folder below one that it shares with the app.
MOUNT_POINT_VARIABLE = "DIT4C_MOUNT_POINT"
# ``uid:gid``, numbers: whose the files look like in the app.
FILES_OWNER_VARIABLE = "DIT4C_FILES_OWNER"
# What the storage helper gets to send what was written, after SIGTERM.
DRAIN_S = 60

# On its own instance's host, below this prefix, the auth helper answers by itself.
OWN_PREFIX = "/.dit4c/"
ALIVE_PATH = "/.dit4c/alive"
CALLBACK_PATH = "/.dit4c/callback"
LOGOUT_PATH = "/.dit4c/logout"
CLEAR_COOKIES_PATH = "/.dit4c/clear-cookies"


class PodConfig(Strict, frozen=True):
    """Everything a helper is told. ``connect`` addresses are reachable from inside the pod.

    ``instance`` is the peer name, ``url`` the instance's canonical URL with a closing slash,
    ``app_port`` the port in the pod's network namespace that the app is to listen on. ``ca`` has
    certificates (PEM) of authorities to believe beside the image's own. ``silence_s`` is for how
    many seconds no byte may move in either direction while a request is under way. ``fileservers``
    are those whose files the storage helper shows; a call to an absent one fails after
    ``files_wait_s`` seconds. It is strict: agent and helpers are of one release, and a setting may
    be a restriction.
    """

    instance: str
    url: str
    app_port: int
    portal: PortalInfo
    routers: list[RouterInfo]
    ca: str = ""
    silence_s: float = 3600.0
    files_wait_s: float = 600.0
    fileservers: list[FileServerInfo] = []


class AccessNews(Record, frozen=True, tag="access-news"):
    """Router → listener → auth helper, over the tunnel that carries the instance's traffic.

    A request is one such line of JSON, the answer :data:`NEWS_TAKEN`: from then on nothing passes
    of the people that it names, until the portal has said that it may.
    """

    ended: list[EndedAccess]


NEWS_TAKEN = b"taken\n"
MAX_NEWS_BYTES = 256 * 1024


class HelperState(StrEnum):
    """Where a helper is on its way to serving."""

    CONNECTING = "connecting"  # listener: to the router
    CONNECTED = "connected"  # listener: the reverse forward stands
    PUBLISHED = "published"  # listener: own URL answered, and the portal knows
    WAITING_FOR_APP = "waiting_for_app"  # auth: the app's port does not answer yet
    APP_READY = "app_ready"  # auth: the app's port answered
    FAILING = "failing"  # goes on trying; ``detail`` says what is wrong
    CONFLICT = "conflict"  # storage: ``detail`` names the conflict copies that it has made
    UNSENT = "unsent"  # storage: time was up at its end; ``detail`` names files that were not sent


class HelperStatus(Record, frozen=True, tag="helper-status"):
    """One line of a helper's standard output."""

    helper: str
    state: HelperState
    detail: str = ""
