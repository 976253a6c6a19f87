"""The monitoring part of deploy/ and of the documentation, as the tests read it. Run as a program it writes
what is made of something else: the operator's object, and the tables of docs/monitoring.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from routed.observe.metrics.catalogue import PER_PEER, SECTIONS, Metric

MONITORING: Final = Path(__file__).resolve().parents[3] / "deploy" / "monitoring"
RULES: Final = MONITORING / "rules.yml"
DOCUMENTATION: Final = MONITORING.parents[1] / "docs" / "monitoring.md"
DASHBOARD: Final = MONITORING / "dashboard.json"


def groups() -> list[dict[str, Any]]:
    """The groups of rules.yml."""
    found = yaml.safe_load(RULES.read_text())["groups"]
    assert isinstance(found, list)
    return found


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in groups() for rule in group["rules"]]


def prometheus_rule() -> str:
    """What prometheus-rule.yaml is to be: rules.yml as an object of the Prometheus operator."""
    text = RULES.read_text()
    body = text[text.index("groups:") :]
    head = (
        "# rules.yml for the Prometheus operator. Made from it; do not edit this one:\n"
        "#   .venv/bin/python -m tests.observe.metrics.manifests\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        "  name: routed\n"
        "  namespace: kube-system\n"
        "  labels:\n"
        "    app.kubernetes.io/name: routed\n"
        "spec:\n"
    )
    return head + "".join(f"  {line}" if line.strip() else line for line in body.splitlines(keepends=True))


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found = json.loads(DASHBOARD.read_text())
    assert isinstance(found, dict)
    return found


# The documentation


def metrics_tables() -> str:
    """All metrics, as docs/monitoring.md has them."""
    sections = {**SECTIONS, "Each peer, with `--metrics-per-peer`": PER_PEER}
    return "\n".join(f"\n### {title}\n\n{_table(metrics)}\n" for title, metrics in sections.items())


def _table(metrics: Sequence[Metric]) -> str:
    endings = {"counter": "_total", "info": "_info"}
    rows = [
        f"| `{one.name}{endings.get(one.kind, '')}` | {one.kind} | {', '.join(one.labels)} | {one.help} |"
        for one in metrics
    ]
    return "\n".join(["| metric | type | labels | |", "| --- | --- | --- | --- |", *rows])


def alerts_table() -> str:
    """All alerts, as docs/monitoring.md has them."""
    rows = [
        f"| {one['alert']} | {one['labels']['severity']} | {one.get('for', '')} | `{one['expr']}` |"
        for one in alerts()
    ]
    return "\n".join(["", "| alert | severity | after | when |", "| --- | --- | --- | --- |", *rows, ""])


def with_tables(page: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("alerts", alerts_table()), ("metrics", metrics_tables())):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, _, rest = page.partition(begin)
        page = head + begin + table.removeprefix("\n") + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    (MONITORING / "prometheus-rule.yaml").write_text(prometheus_rule())
    DOCUMENTATION.write_text(with_tables(DOCUMENTATION.read_text()))
