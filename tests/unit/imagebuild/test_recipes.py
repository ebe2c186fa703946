"""The recipes and their sources agree with each other and with the package."""

import tomllib

import pytest
from lib.paths import ROOT

from dit4c_p2p import resources
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.recipes import (
    ALL_TOOLS,
    DEBIAN,
    OFFERS,
    RECIPES,
    choose_tools,
    image_recipes_for,
)
from dit4c_p2p.run.all_in_one_config import DEFAULT_TOOLS

SOURCES = resources.folder("image_sources")
PROJECT = ROOT / "pyproject.toml"


def test_parents_come_before_their_children() -> None:
    known = {DEBIAN}
    for recipe in RECIPES:
        assert recipe.parent in known
        assert recipe.name not in known
        known.add(recipe.name)


def test_every_recipe_has_its_sources() -> None:
    for recipe in RECIPES:
        dockerfile = (SOURCES / recipe.source_folder / "Dockerfile").read_text()
        assert "FROM ${PARENT}" in dockerfile
        assert ("COPY app " in dockerfile) == (recipe.program is not None)
        wheels = (SOURCES / recipe.source_folder / "requirements.txt").exists()
        assert ("COPY wheels " in dockerfile) == wheels


def test_every_offer_is_built() -> None:
    assert {offer.name for offer in OFFERS} <= {recipe.name for recipe in RECIPES}


def test_an_offer_fits_its_tile() -> None:
    assert all(1 <= len(offer.icon) <= 2 for offer in OFFERS)


def test_tools_are_chosen_by_name() -> None:
    assert choose_tools("all") == ALL_TOOLS
    assert choose_tools("jupyterlab") == ("jupyterlab",)
    # In the catalogue's order, once, however they are written.
    assert choose_tools(" openrefine ,jupyterlab,openrefine,") == ("jupyterlab", "openrefine")
    assert choose_tools(",".join(DEFAULT_TOOLS)) == DEFAULT_TOOLS


@pytest.mark.parametrize("text", ["", ",", "jupiter", "jupyterlab,base", "jupyterlab,all", "ALL"])
def test_what_is_no_tool_is_said_with_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError, match="no tool") as refused:
        choose_tools(text)
    assert all(tool in refused.value.hint for tool in ALL_TOOLS)


def test_only_what_the_chosen_tools_need_is_built() -> None:
    names = [recipe.name for recipe in image_recipes_for(["jupyterlab"])]
    assert names == [
        "base",
        "infra",
        "runtime",
        "listener",
        "auth",
        "upload",
        "storage",
        "jupyterlab",
    ]
    assert image_recipes_for(ALL_TOOLS) == RECIPES


def test_the_helpers_have_the_libraries_that_the_package_asks_for() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted = (SOURCES / "pod/runtime" / "requirements.txt").read_text().split()
    assert set(wanted) <= set(project["dependencies"])


def test_a_helper_has_no_orm_no_templates_and_no_engine() -> None:
    wanted = (SOURCES / "pod/runtime" / "requirements.txt").read_text().lower()
    for library in ("tortoise", "jinja", "docker", "authlib"):
        assert library not in wanted


def test_no_server_is_named_where_this_machine_should_say_which() -> None:
    places = [SOURCES, PROJECT.parent / "scripts", PROJECT.parent / "dit4c_p2p" / "imagebuild"]
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "bench" not in path.name:
                for host in ("pypi.org", "pythonhosted", "deb.debian.org", "docker.io/"):
                    assert host not in path.read_text(), path
