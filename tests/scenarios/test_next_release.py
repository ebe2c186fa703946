"""Peers of the next release: what they add is ignored, what is new to us is known to be that."""

import importlib
import json
import pkgutil
import types
from enum import Enum
from typing import Literal, Union, get_args, get_origin

import msgspec
import pytest

import dit4c_p2p.messages as messages
from dit4c_p2p.messages import link, node
from dit4c_p2p.messages.codec import InvalidMessage, Record, Strict, UnknownKind, decode, encode
from dit4c_p2p.messages.enrol import NewKey
from dit4c_p2p.messages.pod import PodConfig
from dit4c_p2p.messages.registry import Heartbeat, KeyEvent
from dit4c_p2p.messages.upload import UploadPlan

for module in pkgutil.iter_modules(messages.__path__):
    importlib.import_module(f"{messages.__name__}.{module.name}")


def below(kind):
    """All record types, by whatever module declares them."""
    return {kind, *(each for sub in kind.__subclasses__() for each in below(sub))} - {Strict}


KINDS = sorted(
    (kind for kind in below(Record) - {Record} if kind.__module__.startswith(messages.__name__)),
    key=lambda kind: kind.__qualname__,
)
STRICT = [kind for kind in KINDS if issubclass(kind, Strict)]
LENIENT = [kind for kind in KINDS if not issubclass(kind, Strict)]
UNIONS = [
    node.NodeRequest,
    node.NodeReply,
    link.PortalFrame,
    link.SchedulerFrame,
    link.ToPortal,
    link.ToScheduler,
    KeyEvent | Heartbeat,
]
NEW = "of-the-next-release"
PLAIN = {str: "text", int: 7, float: 0.5, bool: True, type(None): None}


def sample(kind):
    """A value of a type, with every optional field filled."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin in (Union, types.UnionType):
        return sample(next(part for part in parts if part is not type(None)))
    if origin is list:
        return [sample(parts[0])]
    if origin is dict:
        return {}
    if origin is Literal:
        return parts[0]
    if issubclass(kind, Enum):
        return next(iter(kind))
    return kind(**{field.name: sample(field.type) for field in msgspec.structs.fields(kind)})


def grown(value):
    """The JSON of a record with two fields more in each record that it consists of.

    An empty object is a map of names, which has no fields.
    """
    if isinstance(value, list):
        return [grown(item) for item in value]
    if isinstance(value, dict) and value:
        more = {"zz_new": {"type": NEW, "deep": [1, {}]}, "aa_new": None}
        return {name: grown(item) for name, item in value.items()} | more
    return value


def as_json(record):
    return json.loads(encode(record))


def test_all_are_here():
    assert len(KINDS) > 40
    assert set(STRICT) == {NewKey, PodConfig, UploadPlan}, (
        "what is strict says why in its docstring"
    )


@pytest.mark.parametrize("kind", LENIENT, ids=lambda kind: kind.__qualname__)
def test_fields_that_are_not_known_are_ignored(kind):
    record = sample(kind)
    assert decode(json.dumps(grown(as_json(record))), kind) == record
    for union in UNIONS:
        if kind in get_args(union):
            assert decode(json.dumps(grown(as_json(record))), union) == record


@pytest.mark.parametrize("kind", STRICT, ids=lambda kind: kind.__qualname__)
def test_what_is_strict_lets_nothing_through(kind):
    record = sample(kind)
    assert decode(encode(record), kind) == record
    with pytest.raises(InvalidMessage, match="unknown field"):
        decode(json.dumps(as_json(record) | {"limit": 1}), kind)


@pytest.mark.parametrize("union", UNIONS, ids=str)
def test_a_kind_that_is_not_known_is_told_apart_from_nonsense(union):
    for kind in get_args(union):
        told = as_json(sample(kind))
        with pytest.raises(UnknownKind, match=NEW):
            decode(json.dumps(told | {"type": NEW}), union)
        for wrong in ({"type": 5}, {"type": None}, {}):
            told.pop("type", None)
            with pytest.raises(InvalidMessage) as caught:
                decode(json.dumps(told | wrong), union)
            assert not isinstance(caught.value, UnknownKind)


def words(kind):
    """Where in a record of this type one of a few words is, as a path of names."""
    for field in msgspec.structs.fields(kind):
        parts = [field.type, *get_args(field.type)]
        if any(get_origin(part) is Literal for part in parts) or any(
            isinstance(part, type) and issubclass(part, Enum) for part in parts
        ):
            yield field.encode_name


WORDS = [(kind, name) for kind in KINDS for name in words(kind)]


@pytest.mark.parametrize(("kind", "name"), WORDS, ids=lambda one: getattr(one, "__name__", one))
def test_a_word_that_is_not_known_is_told_apart_from_nonsense(kind, name):
    told = as_json(sample(kind))
    with pytest.raises(UnknownKind, match=NEW):
        decode(json.dumps(told | {name: NEW}), kind)
    with pytest.raises(InvalidMessage) as caught:
        decode(json.dumps(told | {name: 5}), kind)
    assert not isinstance(caught.value, UnknownKind)


def test_words_are_looked_for_inside():
    assert len(WORDS) >= 4
    pods = as_json(node.PodList(pods=[sample(node.PodStatus)] * 2))
    pods["pods"][1]["state"] = NEW
    with pytest.raises(UnknownKind, match=NEW):
        decode(json.dumps(pods), node.NodeReply)
    envelope = {"type": "message", "id": "x", "body": {"type": NEW, "what": "ever"}}
    with pytest.raises(UnknownKind, match=NEW):
        decode(json.dumps(envelope), link.SchedulerFrame)
    assert decode(json.dumps(envelope), link.AnyEnvelope).id == "x"


@pytest.mark.parametrize("depth", [10, 100_000])
def test_what_is_nested_too_deeply_is_refused_as_ever(depth):
    deep = '{"type":"of-the-next-release","x":' + "[" * depth
    with pytest.raises(InvalidMessage):
        decode(deep, node.NodeRequest)
