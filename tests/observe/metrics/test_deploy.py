"""Alerts, dashboard and probes of deploy/: of metrics that there are, as Prometheus reads them."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.process_collector import ProcessCollector

from routed.bgp.transport import Endpoint
from routed.observe.metrics.catalogue import METRICS, PER_PEER, SECTIONS
from tests.observe.metrics import manifests

_ROOT: Final = Path(__file__).resolve().parents[3]
#: BGP, Felix, Typha, and the exporters and speakers that may run on the same node.
PORTS_IN_USE: Final = {*(179, 9091, 9099, 5473, 9093, 9098, 9900, 9324, 9342, 9140, 9141, 7573, 17472, 20244)}


@functools.cache
def process_series() -> frozenset[str]:
    """What the library tells of the process."""
    return frozenset(
        sample.name for family in ProcessCollector(registry=None).collect() for sample in family.samples
    )


def series() -> set[str]:
    """The names of all time series."""
    return {name for metric in METRICS.values() for name in metric.series} | process_series() | {"up"}


def named(expression: str) -> set[str]:
    """The time series that an expression names."""
    without_labels = re.sub(r"\{[^}]*\}|\(\s*[a-z_]+(, [a-z_]+)*\s*\)", "", expression)
    return set(re.findall(r"\b(?:routed_[a-z0-9_]+|process_[a-z_]+|up)\b", without_labels))


def panels() -> Iterator[dict[str, Any]]:
    """All panels, those of collapsed rows too."""
    for panel in manifests.dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions() -> list[str]:
    """Those of the dashboard."""
    board = manifests.dashboard()
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return found + [annotation["expr"] for annotation in board["annotations"]["list"]]


@pytest.fixture(scope="module")
def promtool(request: pytest.FixtureRequest) -> str:
    unpacked = _ROOT / ".cache" / "daemons" / "prometheus" / "usr" / "bin" / "promtool"
    found = str(unpacked) if unpacked.exists() else shutil.which("promtool")
    if found is None:
        reason = "promtool is not there: scripts/bootstrap test unpacks it"
        (pytest.fail if request.config.getoption("--require-all") else pytest.skip)(reason)
    return found


def run(promtool: str, *arguments: object) -> None:
    done = subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Alerts


def test_prometheus_reads_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", manifests.RULES)


def test_each_alert_is_raised_by_what_it_is_for_and_not_by_other_things(promtool: str) -> None:
    tests = Path(__file__).with_name("rules_test.yml")
    run(promtool, "test", "rules", tests)
    cases = [case for test in yaml.safe_load(tests.read_text())["tests"] for case in test["alert_rule_test"]]
    raised = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert raised == silent == {rule["alert"] for rule in manifests.alerts()}


def test_alerts_are_of_metrics_that_there_are_and_say_what_to_do() -> None:
    for rule in manifests.alerts():
        assert named(rule["expr"]), rule["alert"]
        assert named(rule["expr"]) <= series(), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description", "action"}


def test_the_operators_object_has_the_same_rules() -> None:
    path = manifests.MONITORING / "prometheus-rule.yaml"
    assert path.read_text() == manifests.prometheus_rule(), (
        "write it anew: .venv/bin/python -m tests.observe.metrics.manifests"
    )
    assert yaml.safe_load(path.read_text())["spec"]["groups"] == manifests.groups()


# The dashboard


def test_each_panel_shows_metrics_that_there_are() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        for target in panel["targets"]:
            assert named(target["expr"]), panel["title"]
            assert named(target["expr"]) <= series(), panel["title"]
            assert 'job=~"$job", instance=~"$instance"' in target["expr"], panel["title"]
            assert (
                target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            )


def test_each_metric_is_on_the_dashboard() -> None:
    shown = set().union(*map(named, expressions()))
    missing = [
        metric.name
        for metrics in (*SECTIONS.values(), PER_PEER)
        for metric in metrics
        if shown.isdisjoint(metric.series)
    ]
    # Of a peer, what others say better on a graph.
    assert missing == [
        "routed_bgp_peer",
        "routed_bgp_peer_wanted",
        "routed_bgp_peer_state",
        "routed_bgp_peer_uptime_seconds",
        "routed_bgp_peer_ignored_announcements",
        "routed_bgp_peer_bad_updates",
    ]


def test_the_dashboard_has_what_grafana_needs() -> None:
    board = manifests.dashboard()
    identifiers = [panel["id"] for panel in panels()]
    assert len(identifiers) == len(set(identifiers))
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "job", "instance"}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(references) == len(set(references))
    for one in board["templating"]["list"]:
        assert named(one["query"]["query"]) <= series() if isinstance(one["query"], dict) else True
    places = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)), "no panel lies on another"


def test_prometheus_reads_each_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    replaced = [
        expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
        for expression in expressions()
    ]
    assert not [expression for expression in replaced if "$" in expression]
    rules = [{"record": f"panel:{place}", "expr": one} for place, one in enumerate(replaced)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", file)


# Probes


def test_probes_ask_where_the_process_answers() -> None:
    ports = set()
    for path in ("node/daemonset.yaml", "reflector/deployment.yaml"):
        workload = next(iter(yaml.safe_load_all((_ROOT / "deploy" / path).read_text())))
        pod = workload["spec"]["template"]["spec"]
        assert pod["hostNetwork"] is True, "or the kubelet would not reach the loopback address"
        (container,) = pod["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        endpoint = Endpoint.parse(environment["ROUTED_METRICS"])
        for probe, answer in (("livenessProbe", "/liveness"), ("readinessProbe", "/readiness")):
            get = container[probe]["httpGet"]
            assert get == {"host": str(endpoint.address), "port": endpoint.port, "path": answer}
            assert container[probe]["periodSeconds"] == container[probe]["timeoutSeconds"] == 10
        assert container["livenessProbe"]["failureThreshold"] == 6
        declared = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert declared["metrics"] == endpoint.port
        monitor = yaml.safe_load((manifests.MONITORING / "pod-monitor.yaml").read_text())
        assert [one["port"] for one in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
        ports.add(endpoint.port)
        component = yaml.safe_load((manifests.MONITORING / "kustomization.yaml").read_text())
        (patch,) = [
            yaml.safe_load(one["patch"])
            for one in component["patches"]
            if one["target"]["kind"] == workload["kind"]
        ]
        assert container["env"][0]["name"] == patch[0]["value"] == "ROUTED_METRICS"
        assert patch[1]["value"] == f"0.0.0.0:{endpoint.port}"
    assert len(ports) == 2, "a reflector may run beside the node's own"
    assert ports.isdisjoint(PORTS_IN_USE)


def test_kustomize_adds_it_to_a_base(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        (pytest.fail if request.config.getoption("--require-all") else pytest.skip)(
            "kubectl is not installed"
        )
    shutil.copytree(_ROOT / "deploy", tmp_path / "deploy")
    base = tmp_path / "base"
    base.mkdir()
    (base / "kustomization.yaml").write_text(
        "resources: [../deploy, ../deploy/reflector]\ncomponents: [../deploy/monitoring]\n"
    )
    built = subprocess.run(["kubectl", "kustomize", base], capture_output=True, text=True, check=True)
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built.stdout)}
    assert ("PodMonitor", "routed") in objects
    assert ("PrometheusRule", "routed") in objects
    board = objects["ConfigMap", "routed-dashboard"]
    assert yaml.safe_load(board["data"]["routed.json"]) == manifests.dashboard()
    for kind, name, port in (("DaemonSet", "routed", 9179), ("Deployment", "routed-reflector", 9189)):
        (container,) = objects[kind, name]["spec"]["template"]["spec"]["containers"]
        assert {"name": "ROUTED_METRICS", "value": f"0.0.0.0:{port}"} in container["env"]


# The documentation


def test_the_documentation_has_all_metrics_and_alerts() -> None:
    page = manifests.DOCUMENTATION.read_text()
    assert page == manifests.with_tables(page), (
        "write it anew: .venv/bin/python -m tests.observe.metrics.manifests"
    )
    assert all(f"| {rule['alert']} |" in page for rule in manifests.alerts())


def test_the_documentation_names_nothing_that_there_is_not() -> None:
    page = manifests.DOCUMENTATION.read_text()
    names = set(re.findall(r"\brouted_[a-z0-9_]+", page)) | set(re.findall(r"\bprocess_[a-z_]+[a-z]", page))
    assert names <= series() | METRICS.keys()
