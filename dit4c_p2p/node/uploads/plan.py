"""From what the engine says of an app and its image to what the upload helper is to do. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.messages.saved_images import base_repository, repository_of
from dit4c_p2p.messages.upload import UploadPlan

# Of an image's settings as the engine tells them, those of the OCI's image-spec ("config.md") and
# the ones that Docker has besides.
_SETTINGS = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Shell",
    "OnBuild",
    "ArgsEscaped",
)


def has_layer_folder(info: Mapping[str, Any]) -> bool:
    """Whether the engine keeps what a container has written in a folder that can be read as it is.

    That is overlay2 where whole files are in it (``Native Overlay Diff``), and no other numbers
    stand for the owners. With the containerd image store there is none.
    """
    status = {str(key): str(value) for key, value in info.get("DriverStatus") or ()}
    remapped = any("userns" in option for option in info.get("SecurityOptions") or ())
    return (
        info.get("Driver") == "overlay2"
        and status.get("Native Overlay Diff") == "true"
        and not remapped
    )


def layer_folder(container: Mapping[str, Any]) -> str | None:
    """The folder of a container's writable layer, as the engine says it."""
    driver = container.get("GraphDriver") or {}
    folder = (driver.get("Data") or {}).get("UpperDir")
    return str(folder) if folder and driver.get("Name") == "overlay2" else None


def layers_of(image: Mapping[str, Any]) -> list[str]:
    """The digests of an image's uncompressed layers, the lowest first."""
    return [str(layer) for layer in (image.get("RootFS") or {}).get("Layers") or ()]


def shared_layers(wanted: Sequence[str], image: Sequence[str]) -> int:
    """How many of the lowest layers two images have in common."""
    count = 0
    for ours, theirs in zip(wanted, image, strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def upload_plan(
    instance: str,
    save: str,
    server: ImageServerInfo,
    ca: str,
    image: Mapping[str, Any],
    *,
    derived_from: str,
    committed: Sequence[str],
    flat: bool,
    at: float,
) -> UploadPlan:
    """What the helper is to do.

    :param image: the app's image, as inspected.
    :param derived_from: the repository of the saved image that it is; empty for a tool's.
    :param committed: the layers that the engine has made of the writable layer.
    :param flat: the app's whole file system is to become one layer.
    :param at: since when the files are as they are saved, in seconds since 1970.
    """
    shared = "" if derived_from or flat else base_repository(str(image["Id"]))
    settings = dict(image.get("Config") or {})
    # An image made of a container has taken over what this agent had marked it with and told it.
    labels = (settings.get("Labels") or {}).items()
    settings["Labels"] = {name: text for name, text in labels if not name.startswith("dit4c.")}
    settings["Env"] = [one for one in settings.get("Env") or () if not one.startswith("DIT4C_")]
    created = datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")
    config = {
        "architecture": image.get("Architecture", "amd64"),
        "os": image.get("Os", "linux"),
        "created": created,
        "config": {name: settings[name] for name in _SETTINGS if settings.get(name)},
    }
    return UploadPlan(
        repository=repository_of(instance),
        save=save,
        server=server,
        server_ca=ca,
        layers=[] if flat else layers_of(image),
        sources=[derived_from] if derived_from else [],
        shared_repository=shared,
        config=json.dumps(config, sort_keys=True),
        committed=list(committed),
        flat=flat,
    )
