"""Node agent ⇄ upload helper ⇄ scanner, all of one release and on one machine.

The agent puts ``upload.json`` (an :class:`UploadPlan`) beside the pod's ``config.json`` and key.
The helper writes :class:`UploadLine` records as lines to its standard output and ends with one of
the exit codes below; the agent follows the lines.

The scanner listens on the Unix socket :data:`SCAN_SOCKET`. A caller writes one
:class:`ScanRequest` as a line; the scanner answers with a line of :class:`ScanAnswer` and then
exactly ``bytes`` bytes of an uncompressed tar, or with a line of :class:`ScanFailed`, and closes.

For a checkpoint the scanner runs in :data:`COPY_MODE`: it makes a copy before it listens. It writes
:class:`CopyLine` records as lines to its standard output. After :class:`PauseWanted` the agent
pauses the app and writes :data:`PAUSED_LINE` to the scanner's standard input; after
:class:`CopyDone` or :class:`ScanFailed` the app goes on.
"""

from dit4c_p2p.messages.codec import Record, Strict
from dit4c_p2p.messages.public import ImageServerInfo

PLAN_FILE = "upload.json"

# Of the volume that helper and scanner share, and the socket in it.
SCAN_FOLDER = "/run/scan"
SCAN_SOCKET = f"{SCAN_FOLDER}/scan.sock"
# Where the scanner sees the writable layer, and the app's volumes (``0``, ``1``, …).
SCANNED_ROOT = "/scan/root"
SCANNED_VOLUMES = "/scan/volumes"
# Where the scanner keeps a checkpoint's copy, and what it reads once the app is paused.
COPY_FOLDER = "/scan/copy"
PAUSED_LINE = "paused"
# The scanner's environment: a JSON list of the folders that the app's volumes were mounted at.
VOLUMES_VARIABLE = "DIT4C_VOLUMES"

# The modes of the upload helper's image (its argument).
PUSH_MODE = "push"
LAYERS_MODE = "layers"
FLAT_MODE = "flat"
SCAN_MODE = "scan"
COPY_MODE = "copy"

# Exit codes of the upload helper.
EXIT_DONE = 0
EXIT_FAILED = 1
# The image server lacks layers that only the engine has: run LAYERS_MODE with the image as a
# ``docker save`` archive on standard input (FLAT_MODE: the app's whole file system as a tar), then
# PUSH_MODE again.
EXIT_NEEDS_LAYERS = 4


class UploadPlan(Strict, frozen=True):
    """What the upload helper is to do.

    ``repository``: where the image goes. ``save``: the portal's id of the save. ``server_ca``: PEM
    of authorities to believe beside the system's. ``layers``: digests of the uncompressed layers of
    the image that the app was started from, the lowest first. ``sources``: repositories that may
    have them. ``shared_repository``: where those that are missing are put so that all may have
    them; empty if they are nobody else's business. ``config``: the image's configuration (OCI
    image-spec, "config.md") as JSON, with ``layers`` as its ``diff_ids``. ``committed``: where the
    engine has committed the writable layer, the digests of the layers that it has made of it.
    ``flat``: the image would have too many layers; the app's whole file system becomes one, by
    :data:`FLAT_MODE`, and ``layers`` is empty.
    """

    repository: str
    save: str
    server: ImageServerInfo
    server_ca: str
    layers: list[str]
    sources: list[str]
    shared_repository: str
    config: str
    committed: list[str] = []
    flat: bool = False


class UploadProgress(Record, frozen=True, tag="upload-progress"):
    """How far it is: ``done`` of ``total`` bytes are at the image server; ``sent`` went by wire.

    ``info`` is a sentence for the instance's user; empty for the usual one.
    """

    done: int
    total: int
    sent: int
    info: str = ""


class UploadDone(Record, frozen=True, tag="upload-done"):
    """The image is at the image server, and the portal knows; ``digest`` is the manifest's."""

    digest: str
    layer_bytes: int
    sent: int


class UploadFailed(Record, frozen=True, tag="upload-failed"):
    """It can't be done; ``text`` is a sentence for the instance's user."""

    code: str
    text: str


UploadLine = UploadProgress | UploadDone | UploadFailed


class ScanRequest(Record, frozen=True):
    """Ask for the layer. ``measure``: the first line of the answer only."""

    measure: bool = False


class ScanAnswer(Record, frozen=True, tag="scan"):
    """``bytes`` bytes of tar follow, with that many entries."""

    bytes: int
    entries: int


class ScanFailed(Record, frozen=True, tag="scan-failed"):
    """The layer can't be read."""

    code: str
    text: str


ScanReply = ScanAnswer | ScanFailed


class CopyProgress(Record, frozen=True, tag="copy-progress"):
    """How far the copy is: ``done`` of ``total`` bytes."""

    done: int
    total: int


class PauseWanted(Record, frozen=True, tag="pause-wanted"):
    """All is copied but what changes while the app runs."""


class CopyDone(Record, frozen=True, tag="copy-done"):
    """The copy is complete; ``changed_bytes`` were copied during the pause."""

    changed_bytes: int


CopyLine = CopyProgress | PauseWanted | CopyDone | ScanFailed
