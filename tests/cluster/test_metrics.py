"""Metrics of a run, by value and as Prometheus reads them, and the dashboard that shows them."""

import json
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from ltdd_ray.cluster import metrics
from ltdd_ray.cluster.metrics import ACTORS_LOST, GAUGES, LossCounter, StageGauges, stage_values
from ltdd_ray.runs.events import LossNote
from ltdd_ray.runs.progress import StageState

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "deploy" / "grafana.json").read_text(encoding="utf-8")
)
OURS = {f"ray_{name}" for name in GAUGES} | {f"ray_{ACTORS_LOST}_total"}
CHARTS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\bray_\w+")


def state(done: float, rate: float | None) -> StageState:
    return StageState("distill", done, 20, "updates", rate, "")


def test_values_of_a_stage() -> None:
    assert stage_values(state(0, None), 1.5, 4) == {
        "ltdd_stage_done": 0,
        "ltdd_stage_total": 20,
        "ltdd_stage_rate": 0.0,
        "ltdd_stage_seconds": 1.5,
        "ltdd_stage_waiting": 1.0,
        "ltdd_segment_rate": 0.0,
    }
    later = stage_values(state(5, 0.5), 10.0, 4)
    assert later["ltdd_segment_rate"] == 2.0 and later["ltdd_stage_waiting"] == 0.0
    assert stage_values(state(5, 0.5), 10.0, None).keys() == GAUGES.keys() - {"ltdd_segment_rate"}


class Counted:
    """In place of Ray's counter."""

    made = 0

    def __init__(self, *_: object) -> None:
        type(self).made += 1
        self.calls: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append((value, tags))


def test_losses_are_counted_by_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "Counter", Counted)
    counter = LossCounter("demo")
    assert Counted.made == 0, "Ray may not run yet"
    counter.add("experts", LossNote("one failed", incidents=1))
    counter.add("distill", LossNote("a node was taken", actors=3, preempted=2))
    assert Counted.made == 1
    found: Any = counter._counter
    assert [(n, tags["stage"], tags["cause"]) for n, tags in found.calls] == [
        (1, "experts", "failed"),
        (2, "distill", "preempted"),
        (1, "distill", "failed"),
    ]


def test_every_metric_of_the_dashboard_is_exported_by_us_or_by_ray() -> None:
    """Ray's names are those of the agent that reports them and of Ray's own dashboard."""
    ray = find_spec("ray")
    assert ray and ray.submodule_search_locations
    modules = Path(next(iter(ray.submodule_search_locations)), "dashboard", "modules")
    agent = (modules / "reporter" / "reporter_agent.py").read_text()
    own_dashboard = (modules / "metrics" / "dashboards" / "default_dashboard_panels.py").read_text()
    rays = {f"ray_{name}" for name in re.findall(r'"(node_\w+)"', agent)}
    rays |= set(METRIC.findall(own_dashboard))
    used = {
        name for chart in CHARTS for one in chart["targets"] for name in METRIC.findall(one["expr"])
    }
    assert used <= OURS | rays, sorted(used - OURS - rays)
    assert used >= OURS, "the dashboard shows all that a run exports"
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert set(METRIC.findall(variables["run"]["query"]["query"])) <= OURS


def test_the_dashboard_has_what_grafana_needs() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= DASHBOARD.keys()
    assert DASHBOARD["schemaVersion"] >= 36, "datasources are objects since then"
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len({*identities}) == len(identities)
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert re.findall(r"\$\{?([a-z]+)", json.dumps(CHARTS)) and variables == {"datasource", "run"}
    fields: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in own) < 24 and not own & fields, panel["title"]
        fields |= own
    for chart in CHARTS:
        assert chart["type"] in ("timeseries", "bargauge") and chart["fieldConfig"]["defaults"]
        assert chart["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in chart["targets"]]
        assert references and len({*references}) == len(references)
        for target in chart["targets"]:
            assert used_labels(target["legendFormat"]) <= known_labels(target["expr"]), target


def used_labels(legend: str) -> set[str]:
    return set(re.findall(r"{{(\w+)}}", legend))


def known_labels(expression: str) -> set[str]:
    """Labels that a series of the expression has: its tags and what Prometheus or Ray adds."""
    if "ltdd_actors_lost" in expression:
        return {*metrics.LOSS_TAGS}
    return {*metrics.TAGS} if "ltdd_" in expression else {"instance", "GpuIndex", "State"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_prometheus_reads_every_metric() -> None:
    import ray

    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    StageGauges("prometheus", 4).set(state(5, 0.5))
    LossCounter("prometheus").add("distill", LossNote("lost", actors=3))
    direct, until = build_opener(ProxyHandler({})), time.monotonic() + 60
    found: dict[str, float] = {}
    while found.keys() < OURS and time.monotonic() < until:
        time.sleep(0.5)
        with direct.open(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        mine = [line for line in lines if 'run="prometheus"' in line]
        found = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in mine}
    assert found.keys() >= OURS
    assert found["ray_ltdd_segment_rate"] == 2.0 and found["ray_ltdd_actors_lost_total"] == 3.0
