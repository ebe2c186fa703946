"""What the configuration has comes first and counts; what was withdrawn is known, not offered."""

from pathlib import Path

from dit4c_p2p.portal import CatalogueImage, PortalConfig
from dit4c_p2p.portal.instances.catalogue import arranged_catalogue
from dit4c_p2p.portal.models import Tool

LAB = CatalogueImage("lab", "Lab", "", "sha256:1", "L")
SHELL = CatalogueImage("shell", "Shell", "", "sha256:2")
CONFIG = PortalConfig(
    data_folder=Path("data"),
    url="http://localhost:8080",
    addresses=(),
    user_url="http://{id}.localhost:8081/",
    routers=(),
    catalogue=(SHELL, LAB),
)


def tool(name, **changes):
    fields = {
        "title": name.title(),
        "description": "",
        "icon": "",
        "image": f"r.example/{name}@sha256:3",
        "added_at": 5.0,
        "added_by": "admin",
        "withdrawn_at": None,
    }
    return Tool(name=name, **{**fields, **changes})


def names(catalogue):
    return [image.name for image in catalogue.offered]


def test_the_configurations_in_its_order_then_the_added_ones_in_theirs():
    added = [tool("b"), tool("late", added_at=9.0), tool("a")]
    assert names(arranged_catalogue(CONFIG, added)) == ["shell", "lab", "a", "b", "late"]


def test_a_name_that_is_in_both_is_the_configurations():
    both = arranged_catalogue(CONFIG, [tool("lab", title="Other"), tool("r")])
    assert names(both) == ["shell", "lab", "r"]
    assert both.named("lab") == LAB
    assert both.offers("r.example/lab@sha256:3") is None


def test_what_is_withdrawn_keeps_its_title_and_is_not_offered():
    known = arranged_catalogue(CONFIG, [tool("r", withdrawn_at=6.0)])
    assert names(known) == ["shell", "lab"]
    assert known.offers("r") is None
    assert known.offers("r.example/r@sha256:3") is None
    assert known.named("r").title == "R"
    assert known.named("nothing") is None


def test_started_by_name_or_by_image():
    known = arranged_catalogue(CONFIG, [tool("r")])
    assert known.offers("r") == known.offers("r.example/r@sha256:3") == known.named("r")
    assert known.offers("sha256:1") == LAB
