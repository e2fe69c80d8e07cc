"""What a run came to as files: whole, in pages, and harmless in a spreadsheet."""

import csv
import json

import pytest
from django.db import connections
from django.utils import timezone

from metadata_import import history
from metadata_import.admin import downloads
from metadata_import.errors import StrictImportError
from metadata_import.models import ImportRun
from metadata_import.options import Resume
from metadata_import.statistics import as_json
from tests.factories import ImportRunFactory, ImportSkipFactory
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree
from tests.staff import client_of

HERE = "/admin/metadata_import/importrun/"
rolled_back = pytest.mark.django_db(databases=["default", "registry"])


def body_of(answer) -> str:
    assert answer.streaming
    return b"".join(answer.streaming_content).decode()


def pages_of(run: ImportRun, *, reason: str, at_once: int) -> list[list[str]]:
    pages = history.skip_pages(connections["registry"], run.pk, reason=reason, at_once=at_once)
    return [[each.path for each in page] for page in pages]


@rolled_back
def test_pages_hold_each_path_once_whatever_their_size():
    run = ImportRunFactory()
    alike = "a" * 600
    paths = ["b", *(f"{alike}{number}" for number in range(5)), "é", "Z", "b", f"{alike}3"]
    for path in paths:
        ImportSkipFactory(run_id=run.pk, path=path)
    ImportSkipFactory(run_id=run.pk, reason="layer_missing", path="c")
    for at_once in (1, 2, 3, 100):
        pages = pages_of(run, reason="tag_link_missing", at_once=at_once)
        assert max(map(len, pages)) <= at_once
        assert [path for page in pages for path in page] == sorted(set(paths), key=str.encode)


@rolled_back
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_a_table_is_a_formula(start):
    run = ImportRunFactory()
    ImportSkipFactory(run_id=run.pk, path=f"{start}cmd|' /C calc'!A0", detail=f'{start}1,"\n2')
    answer = client_of("Viewer").get(f"{HERE}{run.pk}/skips.csv")
    assert answer["Content-Disposition"] == f'attachment; filename="import-{run.pk}-skips.csv"'
    head, row = csv.reader(body_of(answer).splitlines(keepends=True))
    assert head == ["reason", "kind", "item", "path", "detail"]
    assert row == ["tag_link_missing", "repository", "group/project", f"'{start}cmd|' /C calc'!A0", f"'{start}1,\"\n2"]


@rolled_back
def test_what_was_left_out_is_a_list_with_reasons():
    run, clean = ImportRunFactory(), ImportRunFactory()
    ImportSkipFactory.create_batch(3, run_id=run.pk)
    ImportSkipFactory(run_id=run.pk, reason="layer_missing", path="last", detail="why")
    viewer = client_of("Viewer")
    found = json.loads(body_of(viewer.get(f"{HERE}{run.pk}/skips.json")))
    assert [each["reason"] for each in found] == ["tag_link_missing"] * 3 + ["layer_missing"]
    assert found[-1] == {
        "reason": "layer_missing",
        "kind": "repository",
        "item": "group/project",
        "path": "last",
        "detail": "why",
    }
    assert json.loads(body_of(viewer.get(f"{HERE}{clean.pk}/skips.json"))) == []
    assert json.loads(body_of(viewer.get(f"{HERE}{clean.pk}/report.json")))["skips"] == {}


def broken(registry_tree) -> None:
    tree = Tree(registry_tree)
    for number in range(3):
        tree.repository("base").joinpath(f"_manifests/tags/broken{number}").mkdir()
    tree.manifest("base", b"{", tag="malformed")


def downloaded(run: ImportRun) -> dict:
    connection, now = connections["registry"], timezone.now()
    state = history.find_run(connection, run.pk, grace=30)
    report = history.report_of(connection, state, now=now)
    by_reason = ((each, history.skip_pages(connection, run.pk, reason=each)) for each in report["skip_counts"])
    return json.loads(body_of(downloads.report_file("report.json", report, by_reason)))


def sorted_skips(report: dict) -> dict:
    return {reason: sorted(skips, key=lambda each: each["path"]) for reason, skips in report["skips"].items()}


def test_the_report_of_a_run_is_what_its_command_prints(committed_db, registry_tree):
    broken(registry_tree)
    report = json.loads(json.dumps(as_json(import_tree(registry_tree))))
    found = downloaded(ImportRun.objects.get())
    assert sorted_skips(found) == sorted_skips(report)
    assert list(found["skips"]) == list(report["skips"])
    assert {**found, "skips": None} == {**report, "skips": None}


def test_the_report_of_a_run_that_failed_is_kept_until_it_goes_on(committed_db, registry_tree):
    broken(registry_tree)
    with pytest.raises(StrictImportError):
        import_tree(registry_tree, strict=True)
    run = ImportRun.objects.get()
    assert (run.status, run.report["attempts"]) == ("failed", 1)
    import_tree(registry_tree, resume=Resume.REQUIRED)
    run.refresh_from_db()
    assert (run.status, run.report["attempts"]) == ("finished", 2)
    assert downloaded(run)["counts"]["repositories"] == 5
