"""Why a verb failed, and how the scheduler is told.

NodeFailure                code of messages.node.Failure
├── EngineError            engine          the engine does not answer, or said no
│   ├── EngineSaid         (it refused; in its words)
│   ├── NotFound           (no such object)
│   └── Conflict           (name or address range in use)
├── UnknownImage           unknown_image
├── RegistryError          registry        the image can't be pulled; not the node's fault
├── DiskFull               disk_full
├── NoPort                 no_port
├── NotListening           not_listening
├── AppExited              app_exited
├── OutOfMemory            out_of_memory
├── NoSuchPod              no_such_pod
├── PolicyRefused          refused
└── PodBroken              internal        the pod's own helpers don't come up
"""

from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.node import Failure


class NodeFailure(DitError):
    """A verb can't be done. ``log_tail`` is the end of the app's log where that helps."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail


class EngineError(NodeFailure):
    """The container engine does not answer, or did not do what it was asked; try again."""

    code = "engine"


class EngineSaid(EngineError):
    """The engine answered, and did not do it. ``words`` are its own."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the container engine said: {words}")
        self.words = words


class NotFound(EngineError):
    """The engine has no such container, image, network or volume."""


class Conflict(EngineError):
    """A name or an address range is in use, or the object is in another state than thought."""


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
    """The machine's owner does not agree to it."""

    code = "refused"


class PodBroken(NodeFailure):
    """The pod's firewall or one of its helpers does not come up."""

    code = "internal"


def as_failure(error: DitError) -> Failure:
    """The last record of an answer whose verb raised ``error``."""
    if isinstance(error, NodeFailure):
        return Failure(code=error.code, text=error.one_line(), log_tail=error.log_tail)
    return Failure(code="internal", text=error.one_line())
