"""What there is of upload pods at the engine, and its removal."""

from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.image_transfer import ImageTransfer
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.engine_steps import gather_all
from dit4c_p2p.node.pods.spec import Definition
from dit4c_p2p.node.uploads import spec

# What a committed writable layer is called at the engine, with the instance as its tag.
COMMITTED = "dit4c-upload"


class UploadPods:
    """The upload pods of one agent.

    :param data_folder: the label that tells this agent's objects from others'.
    """

    def __init__(self, engine: Engine, data_folder: str) -> None:
        self._engine = engine
        self._data_folder = data_folder

    async def remove(self, instance: str, save: str | None = None) -> None:
        """Remove every part of the instance's upload pod, or only of that for one save."""
        filters = spec.upload_pod_filters(self._data_folder, instance, save)
        containers, networks, volumes = await self._engine.parts(filters)
        infra = [one["Id"] for one in containers if role_of(one) == spec.INFRA]
        await gather_all(
            *(
                self._engine.remove_container(one["Id"])
                for one in containers
                if one["Id"] not in infra
            )
        )
        await self._engine.remove_container(spec.upload_container_name(instance, spec.COPY))
        await gather_all(*(self._engine.remove_container(id) for id in infra))
        await gather_all(
            *(self._engine.remove_network(one["Id"]) for one in networks),
            *(self._engine.remove_volume(one["Name"]) for one in volumes),
        )
        await ImageTransfer(self._engine).remove(f"{COMMITTED}:{instance}")

    async def instances(self) -> set[str]:
        """Return every instance of which the engine has a part of an upload pod."""
        containers, networks, volumes = await self._engine.parts(
            spec.upload_pod_filters(self._data_folder)
        )
        parts = [*containers, *networks, *volumes]
        return {str(part["Labels"][spec.LABEL_UPLOAD_OF]) for part in parts}

    async def containers(self, instance: str) -> list[Definition]:
        """Return the upload pod's containers, as listed by the engine."""
        return await self._engine.filtered(spec.upload_pod_filters(self._data_folder, instance))


def role_of(container: Definition) -> str:
    """Which of an upload pod's containers it is; one of those in ``spec``."""
    return str(container["Labels"].get(pod.LABEL_ROLE, "")).removeprefix("upload-")
