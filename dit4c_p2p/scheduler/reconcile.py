"""Comparison of a node's pods with the instances on it, as pure functions.

The node's list decides what exists; the lifecycle decides what to do about it. A pod is removed
only if its instance was discarded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.scheduler.events import StrayFound, StrayGone
from dit4c_p2p.scheduler.lifecycle import (
    Event,
    Instance,
    PodExited,
    PodFound,
    PodInterrupted,
    PodNoted,
    PodRunsOn,
    PodVanished,
)

# Nothing runs of an instance that is one of these.
_DOWN = frozenset({State.EXITED, State.ERRORED})


@dataclass(frozen=True)
class ReconcileFindings:
    """Result of the comparison.

    ``events``: instance ids, and what has happened to them. ``leftovers``: pods of instances that
    were discarded. ``strays``: pods that may run although their instance goes on at another node.
    ``unknown``: pods that no instance on this node accounts for.
    """

    events: tuple[tuple[str, Event], ...] = ()
    leftovers: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def event_of_pod_status(status: PodStatus | None) -> Event | None:
    """What a pod's condition (None: nothing of it is left) means to its instance, or None.

    That it runs is no news in itself: that its URL answers is only said by ``PodRunning``.
    """
    if status is None:
        return PodVanished()
    match status.state:
        case PodState.EXITED:
            return PodExited(status.exit_code, status.reason, status.log_tail, status.run)
        case PodState.INTERRUPTED:
            return PodInterrupted()
        case PodState.RUNNING if status.reason:
            return PodNoted(status.reason)
    return None


def _has_container(instance: Instance) -> bool:
    """Whether the instance should have a container, running or not."""
    if instance.state in _DOWN:
        return instance.ran and not instance.gone
    return instance.state is State.RUNNING


def compare_pods(
    node: str, pods: Iterable[PodStatus], instances: Mapping[str, Instance]
) -> ReconcileFindings:
    """Compare all ``pods`` of ``node`` (a peer name) with the instances.

    :param instances: by id; those on the node as they were *before* it was asked for its pods,
        and any others that the pods are named after. One that was not running by then may have
        got its pod since, and is not missed; one that was down by then has none that runs.
    """
    events: list[tuple[str, Event]] = []
    leftovers, strays, unknown, present = [], [], [], set()
    for pod in pods:
        instance = instances.get(pod.instance)
        if instance is not None and is_stray_pod(instance, node):
            present.add(pod.instance)
            if instance.state in FINAL:
                leftovers.append(pod.instance)
                continue
            events.append((pod.instance, StrayFound(node)))
            if pod.state is not PodState.EXITED:
                strays.append(pod.instance)
            continue
        if instance is None or instance.node != node:
            unknown.append(pod.instance)
            continue
        present.add(pod.instance)
        runs_on = pod.state is PodState.RUNNING and instance.state in _DOWN
        event = PodRunsOn() if runs_on else event_of_pod_status(pod)
        if instance.state in FINAL:
            leftovers.append(pod.instance)
        elif event is not None:
            events.append((pod.instance, event))
        if instance.gone and instance.state not in FINAL:
            events.append((pod.instance, PodFound()))
    events += [
        (id, PodVanished())
        for id, instance in instances.items()
        if instance.node == node and _has_container(instance) and id not in present
    ]
    events += [
        (id, StrayGone(node))
        for id, instance in instances.items()
        if node in instance.kept_on.split() and id not in present
    ]
    return ReconcileFindings(tuple(events), tuple(leftovers), tuple(strays), tuple(unknown))


def is_stray_pod(instance: Instance, node: str) -> bool:
    """Whether what ``node`` has of an instance is of before that went on at another node."""
    return instance.node != node and node in instance.left_nodes
