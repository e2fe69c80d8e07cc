"""What is told of imports."""

import pytest
from django.db import connections
from django.db.utils import OperationalError

from metadata_import import services
from metadata_import.statistics import Mode
from metadata_import.store import Store
from tests.metadata_import.runs import import_tree

STEP_COLUMNS = {"", "_started_at", "_finished_at"}


def test_an_import_is_told_without_what_it_has_not(committed_db, registry_tree):
    import_tree(registry_tree, mode=Mode.PRE_IMPORT)
    (row,) = services.list_statistics(connections["registry"])
    assert (row["pre_import"], row["tag_import"], row["blob_import"]) == (True, False, False)
    assert {f"pre_import{end}" for end in STEP_COLUMNS} <= set(row)
    assert {"tag_import_started_at", "blob_import_error", "blobs_count", "blobs_size_bytes"}.isdisjoint(row)
    assert (row["repositories_count"], row["manifests_count"], row["storage_driver"]) == (5, 8, "filesystem")


def test_imports_are_told_in_their_order_and_failed_ones_with_their_error(committed_db, registry_tree, monkeypatch):
    import_tree(registry_tree, mode=Mode.PRE_IMPORT)

    def fail(self, blobs):
        raise OperationalError("the disk is full")

    monkeypatch.setattr(Store, "write_blobs", fail)
    with pytest.raises(OperationalError):
        import_tree(registry_tree)
    first, second = services.list_statistics(connections["registry"])
    assert first["id"] < second["id"]
    assert second["blob_import_error"] == "the disk is full"
    assert "tag_import_error" not in second
    assert second["tags_count"] == 11
