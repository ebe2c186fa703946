"""Creation and removal of a pod, as ordered calls to the engine.

This module keeps no state: the engine is asked each time what exists. A cancelled step leaves
labelled parts, and :meth:`PodBuilder.remove` finds them all.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from dit4c_p2p.messages.pod import POD_FOLDER
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import (
    Conflict,
    EngineError,
    EngineFull,
    EngineSaid,
    NodeFailure,
    NotFound,
    PodBroken,
)
from dit4c_p2p.node.network import firewall
from dit4c_p2p.node.network.firewall import EgressPolicy
from dit4c_p2p.node.network.host_network import HostNetwork, free_network
from dit4c_p2p.node.pods import spec as pod
from dit4c_p2p.node.pods.disk_quota import WrittenBytes
from dit4c_p2p.node.pods.engine_steps import gather_all, machine_at_fault, sorted_refusals
from dit4c_p2p.node.pods.files_mount import FilesMount, trouble_of
from dit4c_p2p.node.pods.spec import ALL_HELPERS, Definition, NameFile, PodSpec, Role
from dit4c_p2p.node.pods.status import Containers, ContainerState
from dit4c_p2p.node.pods.storage_spec import files_volume_name
from dit4c_p2p.node.saved_images.kept_files import copy_volumes

_log = logging.getLogger(__name__)

# Another agent may take the same network between our look and our call.
_NETWORK_TRIES = 8
_REMOVE_ROUNDS = 5
# The pod's own containers end at once when asked; nothing of theirs is worth waiting for.
_HELPER_GRACE_S = 2
# A shell's and the engine's exit code of a program that a signal has ended is more than that.
_KILLED_FROM = 128


class PodBuilder:
    """Creates and removes the pods of one agent.

    :param data_folder: the label that tells this agent's objects from others'.
    :param network_range: pods' networks come out of it.
    :param host: the machine's networks as they are now.
    :param firewall_s: how long the infra container may take to load the rules.
    :param storage_image: the storage helper's; empty: no files are shown.
    """

    def __init__(
        self,
        engine: Engine,
        data_folder: str,
        network_range: IPv4Network,
        host: Callable[[], HostNetwork],
        firewall_s: float,
        storage_image: str = "",
    ) -> None:
        self._engine = engine
        self.files = FilesMount(engine, data_folder, storage_image)
        self._data_folder = data_folder
        self._range = network_range
        self._host = host
        self._firewall_s = firewall_s
        # Until it has refused one.
        self._sets_quotas = True

    async def look(self, instance: str) -> Containers:
        """Return the pod's containers as they are now, by role."""
        listed = await self._engine.containers(self._data_folder, instance)
        found: dict[Role, ContainerState] = {}

        async def inspect(item: Definition) -> None:
            try:
                state = await self._engine.container(item["Id"])
            except NotFound:
                return
            found[Role(item["Labels"][pod.LABEL_ROLE])] = state

        await gather_all(*(inspect(item) for item in listed))
        return found

    async def exists(self, instance: str) -> bool:
        """Whether the engine has any part of the pod."""
        return instance in await self.instances()

    async def instances(self) -> set[str]:
        """Return every instance of which the engine has a part."""
        containers, networks, volumes = await asyncio.gather(
            self._engine.containers(self._data_folder),
            self._networks(),
            self._engine.volumes(self._data_folder),
        )
        parts = [*containers, *networks, *volumes]
        return {part["Labels"][pod.LABEL_INSTANCE] for part in parts if _is_pods_object(part)}

    async def written(self) -> dict[str, WrittenBytes]:
        """Return the bytes that apps have written, in their containers and volumes, by instance."""
        containers, volumes = await gather_all(
            self._engine.containers(self._data_folder, sizes=True),
            self._engine.volumes(self._data_folder),
        )
        in_volumes: Counter[str] = Counter()
        of_apps = {
            volume["Name"]: volume["Labels"][pod.LABEL_INSTANCE]
            for volume in volumes
            if pod.is_app_volume(volume["Labels"].get(pod.LABEL_INSTANCE, ""), volume["Name"])
        }
        if of_apps:
            for name, size in (await self._engine.volume_sizes()).items():
                if name in of_apps:
                    in_volumes[of_apps[name]] += size
        return {
            instance: WrittenBytes(
                item.get("SizeRw", 0) + in_volumes[instance], item["State"] == "running"
            )
            for item in containers
            if item["Labels"].get(pod.LABEL_ROLE) == Role.APP
            for instance in (item["Labels"][pod.LABEL_INSTANCE],)
        }

    async def build(self, spec: PodSpec, files: Mapping[str, bytes]) -> str:
        """Create the whole pod and start it; the firewall is loaded before anything else runs.

        After a failure nothing of the pod is left. Returns what its user is to know, mostly
        nothing.

        :raises Conflict: a part was there already; build again.
        :raises PodBroken: the firewall could not be loaded.
        """
        try:
            notice = await self._build(spec, files)
        except NodeFailure:
            await _undo_start(spec.instance, self.remove(spec.instance))
            raise
        _log.info("pod of %s: started", spec.instance)
        return notice

    async def _build(self, spec: PodSpec, files: Mapping[str, bytes]) -> str:
        network_id, _ = await gather_all(self._make_network(spec), self._make_volumes(spec))
        name = pod.container_name(spec.instance, Role.INFRA)
        with machine_at_fault():
            infra = await self._engine.create_container(
                name, pod.infra_definition(spec, network_id)
            )
        app, listener, auth = await gather_all(
            self._start_infra_create_app(spec, infra),
            self._create(spec, Role.LISTENER, pod.helper_definition(spec, Role.LISTENER, infra)),
            self._create_auth(spec, infra, files),
        )
        if kept := spec.image.volumes_of:
            await copy_volumes(self._engine, spec, (await self.look(kept)).get(Role.APP), app)
        await gather_all(self._start_app(app), *(self._start_helper(id) for id in (listener, auth)))
        return await self._show_files(spec, infra, app) if spec.files else ""

    async def _show_files(self, spec: PodSpec, infra: str, app: str) -> str:
        """Returns what its user is to know. The app runs already, over the plain folder."""
        try:
            await self.files.show(spec, infra, app)
        except NodeFailure as failure:
            return trouble_of(spec.instance, failure)
        return ""

    async def resume(
        self, spec: PodSpec, files: Mapping[str, bytes], containers: Containers, grace_s: int
    ) -> str:
        """Start a kept app again: the same container with its files, in a namespace with rules.

        ``infra`` has to be the same container as well, because the app is bound to it by its id:
        started again it has a new, empty namespace, and loads the rules that it was made with. If
        others hold by now, these are loaded before anything else runs. The helpers are made anew.
        If it can't be, nothing of the pod runs, and the app's container is there as before. Returns
        what its user is to know, mostly nothing.

        :raises PodBroken: infra is gone, or the firewall could not be loaded.
        """
        try:
            notice = await self._resume(spec, files, containers)
        except NodeFailure:
            await _undo_start(spec.instance, self.stop(spec.instance, grace_s))
            raise
        _log.info("pod of %s: started again", spec.instance)
        return notice

    async def _resume(
        self, spec: PodSpec, files: Mapping[str, bytes], containers: Containers
    ) -> str:
        infra, app = containers.get(Role.INFRA), containers[Role.APP]
        if infra is None:
            raise PodBroken(
                "the pod's network holder (infra) was removed, so its app can't start any more",
                hint="its files are still in the container on its node",
            )
        helpers = [state.id for role, state in containers.items() if role in ALL_HELPERS]
        await gather_all(*(self._engine.remove_container(id) for id in helpers))
        if app.has_files:
            # A dead mount from before would be bound in the place of the plain folder.
            await self.files.unmount(spec.instance)
        await self._start_infra(infra.id, infra.finished)
        if infra.rules != firewall.firewall_ruleset(spec.reach, infra.name_servers):
            await self.renew(infra, spec.reach)
        listener, auth = await gather_all(
            self._create(spec, Role.LISTENER, pod.helper_definition(spec, Role.LISTENER, infra.id)),
            self._create_auth(spec, infra.id, files),
        )
        await gather_all(
            self._start_app(app.id), *(self._start_helper(id) for id in (listener, auth))
        )
        if spec.files and app.has_files:
            return await self._show_files(spec, infra.id, app.id)
        return ""

    async def complete(
        self, spec: PodSpec, files: Mapping[str, bytes], containers: Containers
    ) -> None:
        """Add and start the helpers that a standing pod (infra and app run) lacks.

        One that runs is left alone, whatever its image; one that doesn't is made of today's.
        """
        infra = containers[Role.INFRA].id
        for role, image in (
            (Role.AUTH, spec.helpers.auth),
            (Role.LISTENER, spec.helpers.listener),
        ):
            state = containers.get(role)
            if state is not None and state.running:
                continue
            if state is not None and state.image != image:
                await self._engine.remove_container(state.id)
                state = None
            if state is None and role is Role.AUTH:
                id = await self._create_auth(spec, infra, files)
            elif state is None:
                id = await self._create(spec, role, pod.helper_definition(spec, role, infra))
            else:
                id = state.id
                if role is Role.AUTH:
                    await self._engine.put_files(id, POD_FOLDER, pod.pod_files(files))
            await self._start_helper(id)
            _log.info("pod of %s: %s started", spec.instance, role)
        await self._complete_files(spec, containers)

    async def _complete_files(self, spec: PodSpec, containers: Containers) -> None:
        """Show the files again whose helper has died: over the plain folder, by a new one."""
        app, storage = containers[Role.APP], containers.get(Role.STORAGE)
        if not (spec.files and app.has_files) or (storage is not None and storage.running):
            return
        if storage is not None:
            await self._engine.remove_container(storage.id)
        # The engine can't look into the app while a dead mount lies over its folder.
        await self.files.unmount(spec.instance)
        await self.files.show(spec, containers[Role.INFRA].id, app.id)

    async def renew(self, infra: ContainerState, reach: EgressPolicy) -> None:
        """Put the rules for ``reach`` in the place of a running infra's, at one stroke.

        :raises PodBroken: they could not be loaded; those of before are in force.
        :raises EngineError: it was not seen to its end.
        """
        rules = firewall.replacing_ruleset(firewall.firewall_ruleset(reach, infra.name_servers))
        environment = [f"{pod.RULES_VARIABLE}={rules}"]
        code, said = await self._engine.execute(infra.id, pod.LOAD_RULES, environment)
        if code > _KILLED_FROM:
            raise EngineError("the loading of a pod's firewall was ended by force")
        if code:
            raise _no_firewall(said)

    async def stop(self, instance: str, grace_s: int) -> str:
        """Stop the app first, then what serves it; the containers stay.

        What was written to the user's files is sent, for as long as that may take. Returns what
        they are told of files that did not arrive where they belong; mostly nothing.
        """
        containers = await self.look(instance)
        told = await self._stop_app(containers, grace_s)
        others = [state.id for role, state in containers.items() if role is not Role.APP]
        await gather_all(*(self._engine.stop_container(id, _HELPER_GRACE_S) for id in others))
        app = containers.get(Role.APP)
        if app is not None and app.has_files:
            await self._unmount(instance)
        return told

    async def _unmount(self, instance: str) -> None:
        """Take a mount away whose helper has ended; a deletion can't cross it, and fails at it."""
        try:
            await self.files.unmount(instance)
        except EngineError as failure:
            # The next start of the pod does it, or the next try to remove it.
            _log.warning("pod of %s: %s", instance, failure.one_line())

    async def _stop_app(self, containers: Containers, grace_s: int) -> str:
        """Stop the app, and have its storage helper send what is left while it has a network."""
        app, storage = containers.get(Role.APP), containers.get(Role.STORAGE)
        stuck: EngineError | None = None
        if app is not None and app.running:
            try:
                await self._engine.stop_container(app.id, grace_s)
            except EngineError as failure:
                if storage is None:
                    raise
                # What waits for an absent file server can't be killed. Without the helper it can.
                stuck = failure
        told = "" if storage is None else await self.files.drain(storage)
        if stuck is not None and app is not None:
            _log.warning("an app did not stop: %s", stuck.one_line())
            await self._engine.stop_container(app.id, _HELPER_GRACE_S)
        return told

    async def remove_helpers(self, instance: str) -> None:
        """Remove the helpers of a pod, which are made anew when it is completed."""
        containers = await self.look(instance)
        helpers = [state.id for role, state in containers.items() if role in ALL_HELPERS]
        await gather_all(*(self._engine.remove_container(id) for id in helpers))

    async def remove(self, instance: str) -> None:
        """Remove every part of the pod from the engine.

        What a call that was cut off makes late is seen by another look.
        """
        found = await self.look(instance)
        if Role.STORAGE in found:
            await self._stop_app(found, _HELPER_GRACE_S)
        for _ in range(_REMOVE_ROUNDS):
            containers = await self._engine.containers(self._data_folder, instance)
            # The namespace's holder last: its rules bind for as long as anything else runs.
            infra = [c["Id"] for c in containers if c["Labels"][pod.LABEL_ROLE] == Role.INFRA]
            others = [c["Id"] for c in containers if c["Id"] not in infra]
            await gather_all(*(self._engine.remove_container(id) for id in others))
            await gather_all(*(self._engine.remove_container(id) for id in infra))
            networks, volumes = await gather_all(
                self._networks(instance), self._engine.volumes(self._data_folder, instance)
            )
            if files_volume_name(instance) in {volume["Name"] for volume in volumes}:
                await self._unmount(instance)
            await gather_all(
                *(self._engine.remove_network(network["Id"]) for network in networks),
                *(self._engine.remove_volume(volume["Name"]) for volume in volumes),
            )
            if not (containers or networks or volumes):
                return
        raise EngineError(f"parts of the pod of {instance} come back", hint="who makes them?")

    async def start_infra_in(
        self,
        spec: PodSpec,
        name: str,
        network: Callable[[IPv4Network], Definition],
        infra: Callable[[str], Definition],
    ) -> str:
        """Make a network of its own and start an infra container in it; returns its id.

        :param network: the network's definition, of its addresses.
        :param infra: the container's definition, of the network's id.
        :raises PodBroken: the firewall could not be loaded.
        """
        network_id = await self._make_network(spec, network)
        id = await self._engine.create_container(name, infra(network_id))
        await self._start_infra(id)
        return id

    async def _make_network(
        self, spec: PodSpec, definition: Callable[[IPv4Network], Definition] | None = None
    ) -> str:
        define = definition or partial(pod.pod_network, spec)
        refused: set[IPv4Network] = set()
        for _ in range(_NETWORK_TRIES):
            taken = refused | self._host().routed | _subnets(await self._engine.networks())
            subnet = free_network(self._range, taken, spec.instance)
            if subnet is None:
                break
            try:
                return await self._engine.create_network(define(subnet))
            except Conflict:
                refused.add(subnet)
        raise EngineError(
            f"there is no free network left in {self._range}",
            hint="discard instances, or set a larger network range",
        )

    async def _make_volumes(self, spec: PodSpec) -> None:
        await gather_all(*(self._engine.create_volume(volume) for volume in pod.pod_volumes(spec)))

    async def _create(self, spec: PodSpec, role: Role, definition: Definition) -> str:
        name = pod.container_name(spec.instance, role)
        if role is Role.APP:
            return await self._engine.create_container(name, definition)
        with machine_at_fault():
            return await self._engine.create_container(name, definition)

    async def _start_app(self, id: str) -> None:
        with sorted_refusals():
            await self._engine.start_container(id)

    async def _start_helper(self, id: str) -> None:
        with machine_at_fault():
            await self._engine.start_container(id)

    async def _start_infra_create_app(self, spec: PodSpec, infra: str) -> str:
        """Start infra, and create the app while the firewall is loaded; the app's id.

        The files by which names are resolved in a pod are there once infra was started.
        """
        await self._engine.start_container(infra)
        name_files = (await self._engine.container(infra)).name_files
        place = await self.files.place(spec.instance) if spec.files else ""
        _, app = await gather_all(
            self._wait_for_firewall(infra), self._create_app(spec, infra, name_files, place)
        )
        return str(app)

    async def _create_app(
        self, spec: PodSpec, infra: str, name_files: Sequence[NameFile], files_place: str
    ) -> str:
        """With the owner's limit for its files, if the engine's storage driver can set one."""
        definition = pod.app_definition(spec, infra, name_files, files_place)
        with sorted_refusals():
            return await self._create_app_with_quota(spec, definition)

    async def _create_app_with_quota(self, spec: PodSpec, definition: Definition) -> str:
        limit = spec.policy.disk_bytes
        if limit is None or not self._sets_quotas:
            return await self._create(spec, Role.APP, definition)
        try:
            return await self._create(spec, Role.APP, pod.with_quota(definition, limit))
        except EngineFull:
            raise
        except EngineSaid as error:
            made = await self._create(spec, Role.APP, definition)
            self._sets_quotas = False
            _log.warning("no quota for apps, they are measured instead: %s", error.words)
            return made

    async def _create_auth(self, spec: PodSpec, infra: str, files: Mapping[str, bytes]) -> str:
        """auth is the one that may write to the pod's volume, so the files go in through it."""
        id = await self._create(spec, Role.AUTH, pod.helper_definition(spec, Role.AUTH, infra))
        await self._engine.put_files(id, POD_FOLDER, pod.pod_files(files))
        return id

    async def _start_infra(self, id: str, last_end: float = 0) -> None:
        await self._engine.start_container(id)
        await self._wait_for_firewall(id, last_end)

    async def _wait_for_firewall(self, id: str, last_end: float = 0) -> None:
        """:param last_end: when it ended last; what it said before that is about another run."""
        try:
            async with asyncio.timeout(self._firewall_s):
                async with aclosing(self._engine.follow_output(id, last_end)) as lines:
                    async for line in lines:
                        if line.strip() == pod.READY_LINE:
                            return
        except TimeoutError:
            _log.warning("the firewall was not ready in %s s", self._firewall_s)
        raise _no_firewall(await self._engine.log_tail(id, 20))

    async def _networks(self, instance: str | None = None) -> list[Definition]:
        return [
            network
            for network in await self._engine.networks()
            if (network.get("Labels") or {}).get(pod.LABEL_DATA_DIR) == self._data_folder
            and instance in (None, network["Labels"].get(pod.LABEL_INSTANCE))
        ]


def _no_firewall(said: str) -> PodBroken:
    return PodBroken(
        f"the pod's firewall could not be loaded: {said.strip() or 'no reason was given'}",
        hint="Linux 5.16 or newer with nftables is needed",
    )


async def _undo_start(instance: str, undoing: Coroutine[Any, Any, object]) -> None:
    """Take back a start that has failed. If that fails too, the next start sees to it."""
    try:
        await undoing
    except EngineError as error:
        _log.warning("pod of %s: parts of it are left: %s", instance, error.one_line())


def _is_pods_object(part: Definition) -> bool:
    return pod.LABEL_INSTANCE in (part.get("Labels") or {})


def _subnets(networks: list[Definition]) -> set[IPv4Network]:
    found = set()
    for network in networks:
        for pool in (network.get("IPAM") or {}).get("Config") or []:
            text = pool.get("Subnet", "")
            if "." in text:
                found.add(IPv4Network(text, strict=False))
    return found
