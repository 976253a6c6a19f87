"""The monitoring part of deploy/, as the tests read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

MONITORING: Final = Path(__file__).resolve().parents[3] / "deploy" / "monitoring"
RULES: Final = MONITORING / "rules.yml"
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


if __name__ == "__main__":
    (MONITORING / "prometheus-rule.yaml").write_text(prometheus_rule())
