"""Errors of the node's verbs, and their codes for the scheduler.

NodeFailure                code of messages.node.Failure
├── Passing                                worth trying again as it is
│   ├── EngineError        engine          the engine does not answer, or said no
│   │   ├── EngineSaid     (it refused; in its words)
│   │   │   └── EngineFull storage         (for want of room)
│   │   ├── NotFound       (no such object)
│   │   └── Conflict       (name or address range in use)
│   └── FilesFailed        storage         what the agent keeps can't be written or read
├── UnknownImage           unknown_image
├── RegistryError          registry        the image can't be pulled; not the node's fault
├── DiskFull               disk_full       there is no room for the image
├── NoPort                 no_port
├── ImageRefused           bad_image       the engine can make no container of it
├── MachineRefused         machine         its owner has to change something
├── NotListening           not_listening
├── AppExited              app_exited
├── OutOfMemory            out_of_memory
├── NoSuchPod              no_such_pod
├── PolicyRefused          refused
├── NotSaved               not_saved       its files can't be made an image, or not be uploaded
└── PodBroken              internal        the pod's own helpers don't come up

A request that is not known here is answered with ``unknown_kind``, and what is none with
``internal``.
"""

from dit4c_p2p.atomic_file import is_full_disk_error
from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.codec import UnknownKind
from dit4c_p2p.messages.node import Failure

_NO_ROOM = "the disk of the machine it runs on is full"
_MAKE_ROOM = "its owner has to make room"
_DID_NOT = "the container engine of the machine it runs on did not do what it was asked"
# A sentence; the engine's words may hold whole command lines, which an image's maker has written.
_MAX_TEXT_CHARS = 1000


class NodeFailure(DitError):
    """A verb can't be done. ``log_tail`` is the end of the app's log where that helps.

    ``told``: what is said of it beyond this machine, if not its own words.
    """

    code = "internal"
    told = ""

    def __init__(self, message: str, *, hint: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail


class TransientError(NodeFailure):
    """A passing failure: the same call may succeed when it is repeated."""


class EngineError(TransientError):
    """The container engine does not answer, or did not do what it was asked."""

    code = "engine"


class EngineSaid(EngineError):
    """The engine answered, and did not do it.

    ``words`` are its own, for the log: they name folders of this machine. ``status`` is that of its
    HTTP answer, 0 if it was none.
    """

    def __init__(self, words: str, message: str = "", *, hint: str = "", status: int = 0) -> None:
        super().__init__(message or f"the container engine said: {words}", hint=hint)
        self.words = words
        self.status = status
        if not message:
            self.told = _DID_NOT


class EngineFull(EngineSaid):
    """The engine has no room for what it was asked to make."""

    code = "storage"

    def __init__(self, words: str) -> None:
        super().__init__(words, _NO_ROOM, hint=_MAKE_ROOM)


class NotFound(EngineError):
    """The engine has no such container, image, network or volume."""


class Conflict(EngineError):
    """A name or an address range is in use, or the object is in another state than thought."""


class FilesFailed(TransientError):
    """The agent's files of a pod can't be read or written, because of ``error``."""

    code = "storage"

    def __init__(self, error: OSError) -> None:
        if is_full_disk_error(error):
            super().__init__(_NO_ROOM, hint=_MAKE_ROOM)
        else:
            super().__init__(
                f"the machine it runs on can't keep its files: {error.strerror or error}",
                hint="its owner has to look after the disk",
            )


class UnknownImage(NodeFailure):
    """The image is not on this node, and there is nowhere to get it from."""

    code = "unknown_image"


class RegistryError(NodeFailure):
    """The registry does not answer, or not as it should."""

    code = "registry"


class DiskFull(NodeFailure):
    """There is no room on the node for the image."""

    code = "disk_full"


class NoPort(NodeFailure):
    """The image declares no TCP port to serve."""

    code = "no_port"


class NotListening(NodeFailure):
    """The app runs but did not listen on its port in time."""

    code = "not_listening"


class AppExited(NodeFailure):
    """The app ended before it was reachable."""

    code = "app_exited"


class OutOfMemory(NodeFailure):
    """The app was ended for using more memory than it may."""

    code = "out_of_memory"


class NoSuchPod(NodeFailure):
    """There is no pod of that instance here."""

    code = "no_such_pod"


class PolicyRefused(NodeFailure):
    """The policy of the machine's owner forbids it."""

    code = "refused"


class ImageRefused(NodeFailure):
    """The engine can't make a container of the image, and never will."""

    code = "bad_image"


class MachineRefused(NodeFailure):
    """The engine can't make a container until the machine's owner has changed something."""

    code = "machine"


class NotSaved(NodeFailure):
    """The app's files can't be made an image, or the image can't be uploaded."""

    code = "not_saved"


class PodBroken(NodeFailure):
    """The pod's firewall or one of its helpers does not come up."""

    code = "internal"


def as_failure(error: DitError) -> Failure:
    """The last record of an answer whose verb raised ``error``."""
    text = error.one_line()[:_MAX_TEXT_CHARS]
    if isinstance(error, NodeFailure):
        text = error.told or text
        return Failure(code=error.code, text=text, log_tail=error.log_tail)
    code = error.code if isinstance(error, UnknownKind) else "internal"
    return Failure(code=code, text=text)
