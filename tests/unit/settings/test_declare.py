"""The declarations themselves: the examples say all of them, and they agree with the components."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from lib.paths import ROOT

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.node.config import Limits as NodeLimits
from dit4c_p2p.portal import Limits as PortalLimits
from dit4c_p2p.router import Limits as RouterLimits
from dit4c_p2p.scheduler import Limits as SchedulerLimits
from dit4c_p2p.settings import KINDS, read
from dit4c_p2p.settings.declare import (
    Section,
    Setting,
    declared_parts,
    environment_variable,
    every_setting,
)
from dit4c_p2p.settings.example import example
from dit4c_p2p.settings.node import PodSettings, PolicySettings

EXAMPLES = ROOT / "docs" / "config"


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_the_declarations(kind):
    file = EXAMPLES / f"{kind}.toml"
    written = example(KINDS[kind], kind)
    assert file.read_text() == written, f"dit4c config example {kind} > {file}"
    assert max(map(len, written.splitlines())) <= 120


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_passes(kind):
    read(KINDS[kind], kind, EXAMPLES / f"{kind}.toml", {})


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_has_every_setting_and_passes_with_all_of_them(kind, tmp_path):
    text = (EXAMPLES / f"{kind}.toml").read_text()
    # A comment begins with "# "; a setting that is commented out does not.
    everything = tmp_path / "all.toml"
    everything.write_text(re.sub(r"^#(?=[\w\[])", "", text, flags=re.M))
    read(KINDS[kind], kind, everything, {})
    table = tomllib.loads(everything.read_text())
    check_complete(KINDS[kind], table)


def check_complete(settings, table):
    for name, part in declared_parts(settings):
        assert name in table, f"{settings.__name__}.{name}"
        if isinstance(part, Section):
            check_complete(part.settings, table[name][0] if part.many else table[name])


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_means(kind):
    def check(settings):
        assert settings.__doc__
        for name, part in declared_parts(settings):
            assert part.meaning.endswith("."), name
            assert part.meaning[0].isupper(), name
            if isinstance(part, Setting):
                assert part.value.write is not None
            else:
                check(part.settings)

    check(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_settings_have_one_variable(kind):
    names = [environment_variable(path) for path, _ in every_setting(KINDS[kind])]
    assert len(names) == len(set(names))


def settings_of(kind):
    return read(KINDS[kind], kind, EXAMPLES / f"{kind}.toml", {})


def public():
    key = public_line(generate(), "portal-main")
    portal = PortalInfo(name="portal-main", url="https://portal.example.org", key=key)
    return PublicConfig(portal=portal, routers=[], user_url="https://{id}.example.net/")


def test_what_is_left_out_is_as_the_components_have_it():
    """A default of a component is said a second time only by this file's word."""
    key, said = generate(), public()
    router = settings_of("router").config(key, said.portal, said)
    assert router.limits == RouterLimits()
    scheduler = settings_of("scheduler").config(key, said.portal, said)
    assert scheduler.limits == SchedulerLimits()
    images = HelperImages(infra="a", listener="b", auth="c")
    node = settings_of("node").config(key, said.portal, said, images)
    defaults = {field.name: field.default for field in fields(NodeConfig)}
    assert (node.policy, node.pods) == (PolicySettings(), PodSettings())
    assert node.limits == NodeLimits()
    assert node.engine_url == defaults["engine_url"]
    assert node.pod_portal == said.portal
    portal = settings_of("portal").config()
    assert portal.limits == PortalLimits()


# What no installation needs to change: by a protocol, or between two programs of ours.
FIXED = {
    "code_s",
    "body_s",
    "body_silence_s",
    "handshake_s",
    "page_state_s",
    "page_state_ttl_s",
}


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("portal", PortalLimits),
        ("scheduler", SchedulerLimits),
        ("router", RouterLimits),
        ("node", PodSettings),
        ("node", PolicySettings),
    ],
)
def test_every_limit_of_a_component_can_be_set(kind, limits):
    names = {field.name for field in fields(limits)} - FIXED
    assert names == {field.name for field in fields(limits) if field.metadata}


def test_the_portals_file_becomes_its_configuration(tmp_path):
    text = (EXAMPLES / "portal.toml").read_text()
    file = tmp_path / "portal.toml"
    before, tools, rest = text.partition("#[[tools]]")
    file.write_text(
        before
        + re.sub(r"^#(?=\[\[|name|title|description|icon|image)", "", tools + rest, flags=re.M)
    )
    config = read(KINDS["portal"], "portal", file, {}).config()
    assert config.url == "https://portal.example.org"
    assert config.secure_addresses == (("0.0.0.0", 443), ("::", 443))
    assert config.tls.key == Path("/etc/dit4c/tls/key.pem")
    assert config.routers[0].ssh == ["router.example.org:8022"]
    (tool,) = config.catalogue
    assert (tool.name, tool.title, tool.icon) == ("jupyterlab", "JupyterLab", "J")
