"""What machines ask: health, readiness and metrics, and who may ask for metrics."""

import json
import re
import socket
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.utils import timezone
from prometheus_client import REGISTRY, CollectorRegistry

from background_migrations.metrics import WorkerMetrics
from metadata_import.models import ImportRun
from registry_project import environment, exposition
from registry_project.api.database import registry_connection

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
pytestmark = pytest.mark.django_db(databases=["default", "registry"])


def ask(path, **options):
    return Client().get(path, **options)


@pytest.mark.parametrize("path", ["/healthz", "/healthz/", "/readyz", "/metrics"])
def test_a_probe_needs_neither_the_site_s_name_nor_tls(settings, path):
    settings.SECURE_SSL_REDIRECT, settings.ALLOWED_HOSTS = True, ["registry.example.com"]
    answer = ask(path, headers={"Host": "10.0.0.7:8000"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert not answer.cookies


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_probe_only_asks(path):
    answer = Client().post(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_pending_migrations_before_deployment_make_it_not_ready_and_later_ones_do_not():
    delete = "DELETE FROM {} WHERE id = (SELECT max(id) FROM {})"
    with connections["registry"].cursor() as cursor:
        cursor.execute(delete.format(*["post_deploy_schema_migrations"] * 2))
        assert ask("/readyz").status_code == 200
        cursor.execute(delete.format(*["schema_migrations"] * 2))
    answer = ask("/readyz")
    assert (answer.status_code, json.loads(answer.content)) == (
        503,
        {"status": "unavailable", "registry database": "1 schema migrations are to be applied before deployment"},
    )


LOCAL, FAR = "127.0.0.1", "203.0.113.5"
# Networks that may read, whether a proxy is known, the address that asks, what it says of itself, and the answer.
READERS = {
    "this machine": ("127.0.0.0/8,::1", False, LOCAL, {}, 200),
    "this machine, as IPv6 writes it": ("127.0.0.0/8,::1", False, "::ffff:127.0.0.1", {}, 200),
    "another machine": ("127.0.0.0/8,::1", False, "10.1.2.3", {}, 403),
    "through a socket, so through a proxy": ("127.0.0.0/8,::1", False, "", {}, 403),
    "through a proxy that nobody told of": ("127.0.0.0/8,::1", False, LOCAL, {"X-Forwarded-For": LOCAL}, 403),
    "through another one": ("127.0.0.0/8,::1", False, LOCAL, {"Forwarded": "for=127.0.0.1"}, 403),
    "a forged address": ("127.0.0.0/8,::1", True, LOCAL, {"X-Forwarded-For": f"{LOCAL}, {FAR}"}, 403),
    "through a known proxy": ("10.0.0.0/8", True, LOCAL, {"X-Forwarded-For": f"{FAR}, 10.1.2.3"}, 200),
    "a network that is named": ("10.0.0.0/8", False, "10.1.2.3", {}, 200),
    "switched off": ("none", False, LOCAL, {}, 404),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_metrics_are_shown_to_the_networks_that_are_named(settings, monkeypatch, reader):
    networks, settings.BEHIND_PROXY, address, headers, code = reader
    monkeypatch.setenv("REGISTRY_METRICS_NETWORKS", networks)
    settings.METRICS_NETWORKS = environment.networks("REGISTRY_METRICS_NETWORKS", default="")
    assert ask("/metrics", headers=headers, REMOTE_ADDR=address).status_code == code


def test_probes_can_be_switched_off(settings):
    settings.HEALTHZ = settings.READYZ = False
    assert [ask(path).status_code for path in ("/healthz", "/readyz")] == [404, 404]


def test_a_network_that_is_none_is_an_error_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("REGISTRY_METRICS_NETWORKS", "10.0.0.1/8")
    with pytest.raises(ImproperlyConfigured, match=r"REGISTRY_METRICS_NETWORKS.*none"):
        environment.networks("REGISTRY_METRICS_NETWORKS", default="")


def test_the_reference_names_every_metric_and_none_that_is_not_there():
    ImportRun.objects.create(storage_driver="filesystem", root="/r", mode="full", started_at=timezone.now())
    worker, connection = CollectorRegistry(), registry_connection()
    WorkerMetrics(worker, worker="w")
    families = [
        *worker.collect(),
        *(family for family in REGISTRY.collect() if family.name.startswith("registry_")),
        *(family for source in exposition.FROM_DATABASE._sources for family in source(connection)),
    ]
    found = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert found | {"registry_database_up"} == set(
        re.findall(r"^\| `(registry_\w+)`", REFERENCE.read_text(), re.MULTILINE)
    )


def test_tables_that_are_not_there_yet_take_nothing_else_away():
    with connections["registry"].cursor() as cursor:
        cursor.execute("DROP TABLE registry_admin.import_runs")
    collector = exposition.DatabaseCollector(exposition.FROM_DATABASE._sources)
    found = {family.name: family.samples for family in collector.collect()}
    assert found["registry_bbm_migrations"]
    assert "registry_import_run" not in found
    assert found["registry_database_up"][0].value == 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign"), ("somewhere", "no IP address")],
)
def test_an_address_that_cannot_be_listened_on_is_one_line_that_says_so(address, reason):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            CommandError, match=rf"^Cannot listen on {re.escape(address)} port {port}: .*{reason}.*--port\.$"
        ):
            call_command("serve", "--address", address, "--port", str(port))
