"""What we hand to Prometheus and Grafana, against the metrics that there are, by Prometheus' own tool."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.programs import require_programs

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = DOCS / "operations"
NAME = re.compile(r"\bregistry_\w+")


def described() -> set[str]:
    """Every metric in the reference, with the series of histograms."""
    text = (DOCS / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(registry_\w+)` \| (\w+)", text, re.MULTILINE)
    return {
        name + suffix
        for name, kind in rows
        for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }


def test_the_dashboard_asks_for_metrics_that_there_are():
    panels = json.loads((OPERATIONS / "dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(asked) > 20
    assert {name for each in asked for name in NAME.findall(each)} <= described()


def test_the_alerts_look_at_metrics_that_there_are():
    rules = (OPERATIONS / "alerts.yml").read_text()
    assert set(NAME.findall(rules)) <= described()


@pytest.mark.e2e
@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_prometheus_takes_the_configuration_and_the_alerts_fire_when_they_should(words):
    require_programs("promtool", packages=("prometheus",))
    done = subprocess.run(["promtool", *words], cwd=OPERATIONS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
