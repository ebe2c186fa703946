"""docs/observability.md says all the figures there are, and no others."""

import re

from lib.paths import ROOT

from dit4c_p2p.fileserver.metrics import FileServerMetrics
from dit4c_p2p.imageserver.metrics import ImageServerMetrics
from dit4c_p2p.node.metrics import NodeMetrics
from dit4c_p2p.portal.metrics import PortalMetrics
from dit4c_p2p.router.metrics import RouterMetrics
from dit4c_p2p.scheduler.metrics import SchedulerMetrics

PAGE = ROOT / "docs" / "observability.md"


def test_every_figure_is_in_the_table_with_its_components():
    said = dict(re.findall(r"^\| `(dit4c_\w+)` \| ([\w, ]+) \|", PAGE.read_text(), re.M))
    peers = [SchedulerMetrics(), RouterMetrics(), NodeMetrics(), FileServerMetrics()]
    every = [PortalMetrics(), *peers, ImageServerMetrics()]
    there: dict[str, list[str]] = {}
    for metrics in every:
        for family in metrics.registry.collect():
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            there.setdefault(family.name + suffix, []).append(metrics.component)
    names = {name: ", ".join(of) if len(of) < len(every) else "each" for name, of in there.items()}
    assert said == names


def test_every_act_of_the_portal_is_in_the_table():
    folder = PAGE.parents[1] / "dit4c_p2p"
    text = "\n".join(
        file.read_text() for name in ("portal", "") for file in (folder / name).glob("*.py")
    ) + "\n".join(file.read_text() for file in (folder / "portal").glob("*/*.py"))
    writers = "record_required|record_best_effort|record_refusal|write|_apart"
    acts = set(re.findall(rf"(?<!\w)(?:{writers})\(\s*(?:file, )?\"([a-z_.]+)\"", text))
    assert len(acts) > 15
    page = PAGE.read_text()
    assert {act for act in acts if f"`{act}`" not in page} == set()
