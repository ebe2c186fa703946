"""A file and the environment become settings, or a line for each thing that is wrong."""

from dataclasses import dataclass

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.settings import (
    KINDS,
    InvalidSettings,
    NodeSettings,
    PortalSettings,
    kind_of_settings_file,
    read,
    values,
)
from dit4c_p2p.settings.declare import Settings, section, sections, setting
from dit4c_p2p.settings.read import unknown_variables

KEY = public_line(generate(), "portal-main")
NODE = f'id = "home"\n[portal]\nurl = "https://portal.example.org"\nkey = "{KEY}"\n'


@pytest.fixture
def node(tmp_path):
    """Reads a node's file that ends in the given text."""

    def read_node(end="", *, begin="", **environ):
        file = tmp_path / "node.toml"
        file.write_text(begin + NODE + end)
        return read(NodeSettings, "node", file, environ)

    return read_node


def problems(node, *arguments, **named):
    with pytest.raises(InvalidSettings) as caught:
        node(*arguments, **named)
    assert "\n" not in caught.value.one_line()
    return list(caught.value.problems)


def test_a_node_owners_file_is_tiny(node):
    settings = node()
    assert str(settings.name) == "node-home"
    assert settings.scheduler == "main"
    assert settings.policy.memory_bytes == 2 * 1024**3
    assert settings.key_path.as_posix() == "/var/lib/dit4c-node/key"


def test_a_whole_table(node):
    settings = node('[policy]\nmemory = "512 MiB"\ninternet = false\ncpus = 0.5\n')
    assert settings.policy.memory_bytes == 512 * 1024**2
    assert settings.policy.internet is False
    assert settings.policy.cpus == 0.5
    assert settings.policy.processes == 512


def test_the_environment_goes_over_the_file(node):
    settings = node(
        '[policy]\nmemory = "512 MiB"\n',
        DIT4C_POLICY_MEMORY="3 GiB",
        DIT4C_POLICY_CPUS="0.25",
        DIT4C_POLICY_INSTANCES="3",
        DIT4C_POLICY_INTERNET="false",
        DIT4C_PODS_RESOLVERS="192.0.2.1, 192.0.2.2",
        DIT4C_ID="lab",
    )
    assert settings.policy.memory_bytes == 3 * 1024**3
    assert (settings.policy.cpus, settings.policy.instances) == (0.25, 3)
    assert settings.policy.internet is False
    assert settings.pods.resolvers == ("192.0.2.1", "192.0.2.2")
    assert settings.id == "lab"


def test_what_the_environment_has_wrong_names_the_setting(node):
    assert problems(node, DIT4C_POLICY_CPUS="lots") == ['policy.cpus: "lots" is not a number. '
                                                        "Write 0.05"]  # fmt: skip


def test_an_unknown_key(node):
    assert problems(node, "[policy]\nmemroy = 5\n") == [
        "policy.memroy: there is no such setting. Did you mean memory?"
    ]
    assert problems(node, "[polices]\n") == [
        "polices: there is no such setting. Did you mean policy?"
    ]
    (far,) = problems(node, "[policy]\nxyz = 5\n")
    assert "There are instances, memory" in far


def test_an_unknown_key_that_would_break_the_line(node):
    (line,) = problems(node, '"a\\nb\\u001b[2J" = 5\n')
    assert line.startswith("portal.a\\u000ab\\u001b[2J: there is no such setting")


def test_a_wrong_unit(node):
    assert problems(node, '[pods]\nanswers = "2 GiB"\n') == [
        'pods.answers: "GiB" is not a unit of a length of time. Units are s, min, h, d'
    ]


def test_everything_that_is_wrong_is_said_at_once(node):
    found = problems(
        node, '[policy]\nmemory = 5\ncpus = "x"\n[images]\ninfra = "a"\n', begin="x=1\n"
    )
    assert [line.split(":")[0] for line in found] == [
        "x",
        "policy.memory",
        "policy.cpus",
        "images.auth",
    ]


def test_what_is_missing_is_said_with_its_meaning(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text("")
    with pytest.raises(InvalidSettings) as caught:
        read(NodeSettings, "node", file, {})
    assert caught.value.problems[0] == (
        "id: it is missing. Its id; its name is node-ID. The scheduler's file lists it."
    )
    assert "dit4c config check node" in caught.value.hint
    assert {line.split(":")[0] for line in caught.value.problems} == {
        "id",
        "portal.url",
        "portal.key",
    }


@pytest.mark.parametrize("text", ["portal = 5", "[[portal]]\nurl = 5"])
def test_no_table_where_one_has_to_be(tmp_path, text):
    file = tmp_path / "node.toml"
    file.write_text(f'id = "home"\n{text}')
    with pytest.raises(InvalidSettings, match=r"portal: .* is not a table"):
        read(NodeSettings, "node", file, {"DIT4C_PORTAL_URL": "https://p.example.org"})


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(NodeSettings, "node", tmp_path / "none.toml", {})
    assert "can't be read: No such file" in str(caught.value)
    assert "dit4c config example" in caught.value.hint
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        read(NodeSettings, "node", tmp_path, {})


@pytest.mark.parametrize("content", [b"id = home", b'id = "\xff"', b"[a]\n[a]", b"a" * 2**21])
def test_a_file_that_is_no_toml(tmp_path, content):
    file = tmp_path / "node.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(NodeSettings, "node", file, {})
    assert str(file) in str(caught.value)
    assert "\n" not in caught.value.one_line()


def test_a_file_for_another_component(node, tmp_path):
    assert problems(node, begin='kind = "router"\n') == [
        "kind: this file is for a router. Give one for a node"
    ]
    assert node(begin='kind = "node"\n').id == "home"
    file = tmp_path / "x.toml"
    file.write_text('kind = "node"')
    assert kind_of_settings_file(file) == "node"
    for text in ("", 'kind = "nod"', "kind = 5"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="does not say which component"):
            kind_of_settings_file(file)


def test_tables_that_may_be_there_again(tmp_path):
    file = tmp_path / "portal.toml"
    begin = 'url = "https://p.example.org"\nlisten = ["127.0.0.1:8080"]\n'
    begin += 'user_url = "https://{id}.example.net/"\n'
    router = '[[routers]]\nid = "r1"\nssh = ["r.example.org:8022"]\nhttp = ["r.example.org:443"]\n'
    file.write_text(begin + router)
    settings = read(PortalSettings, "portal", file, {})
    assert [entry.info.name for entry in settings.routers] == ["router-r1"]
    for text, says in (
        (begin, "routers: there is none"),
        (begin + router + router, "routers: r1 is there 2 times"),
        (begin + router + router.replace('"r1"', '"R"'), "routers.2.id: 'R' is not an id"),
        (begin + router + "[tools]\n", "tools: write it as [[tools]]"),
        (begin + "routers = [5]\n", "routers.1: 5 is not a table"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidSettings) as caught:
            read(PortalSettings, "portal", file, {})
        assert caught.value.problems[0].startswith(says), text


def test_a_mistyped_variable_is_noticed():
    kinds = list(KINDS.values())
    environ = {"DIT4C_POLICY_MEMROY": "1", "DIT4C_TOKEN": "x", "DIT4C_POLICY_MEMORY": "1 GiB"}
    assert list(unknown_variables(kinds, environ)) == [
        "the environment's DIT4C_POLICY_MEMROY is no setting; did you mean DIT4C_POLICY_MEMORY?"
    ]


@dataclass(frozen=True, kw_only=True)
class Lamp(Settings):
    """A lamp."""

    watt: int = setting(values.integer(1, 100), "How bright.")


@dataclass(frozen=True, kw_only=True)
class Room(Settings):
    """A room."""

    name: str = setting(values.text, "Its name.", default="hall")
    lamp: Lamp = section(Lamp, "The lamp at the ceiling.")
    more: tuple[Lamp, ...] = sections(Lamp, "More lamps.")


def test_a_table_with_something_required_is_required(tmp_path):
    file = tmp_path / "room.toml"
    file.write_text("")
    with pytest.raises(InvalidSettings, match=r"lamp\.watt: it is missing"):
        read(Room, "room", file, {})
    file.write_text("lamp.watt = 5")
    assert read(Room, "room", file, {}) == Room(lamp=Lamp(watt=5))
    assert read(Room, "room", file, {"DIT4C_LAMP_WATT": "7"}).lamp.watt == 7
