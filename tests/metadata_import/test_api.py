"""The statistics for GitLab Rails: the release, and every import on record."""

import pytest
from django.db import connections

from tests.api_client import counted_statements

pytestmark = pytest.mark.django_db(databases=["registry"])

PATH = "/gitlab/v1/statistics/"
SCOPE = "registry:statistics:*"
RUN = """
    INSERT INTO import_statistics (id, created_at, started_at, pre_import, tag_import, blob_import,
        repositories_count, tags_count, manifests_count, storage_driver)
    VALUES (7, '2025-07-10 18:34:41.09796+02', '2025-07-10 16:34:39.5102+00', true, NULL, false, 1, 3, 3, 'filesystem')
"""
FAILED_RUN = """
    INSERT INTO import_statistics (id, created_at, started_at, finished_at, pre_import, pre_import_started_at,
        pre_import_finished_at, pre_import_error, blobs_count, blobs_size_bytes)
    VALUES (3, '2025-07-10 16:00:00+00', '2025-07-10 16:00:00+00', '2025-07-10 16:00:01+00', true,
        '2025-07-10 16:00:00+00', '2025-07-10 16:00:01+00', 'it broke', 2, 5000000000)
"""


@pytest.fixture
def cursor():
    with connections["registry"].cursor() as cursor:
        yield cursor


def test_without_imports_there_is_no_list_of_them(api, settings):
    settings.REGISTRY_VERSION = "v4.39.0-gitlab"
    assert api.get(PATH, SCOPE).json() == {
        "release": {"ext_features": "tag_delete", "version": "v4.39.0-gitlab"},
        "database": {"enabled": True},
    }


def test_imports_are_listed_by_id_without_what_did_not_happen(api, cursor):
    cursor.execute(RUN)
    cursor.execute(FAILED_RUN)
    failed, run = api.get(PATH, SCOPE).json()["import"]
    assert run == {
        "id": 7,
        "created_at": "2025-07-10T16:34:41.09796Z",
        "started_at": "2025-07-10T16:34:39.5102Z",
        "pre_import": True,
        "tag_import": False,
        "blob_import": False,
        "repositories_count": 1,
        "tags_count": 3,
        "manifests_count": 3,
        "storage_driver": "filesystem",
    }
    assert failed == {
        "id": 3,
        "created_at": "2025-07-10T16:00:00Z",
        "started_at": "2025-07-10T16:00:00Z",
        "finished_at": "2025-07-10T16:00:01Z",
        "pre_import": True,
        "pre_import_started_at": "2025-07-10T16:00:00Z",
        "pre_import_finished_at": "2025-07-10T16:00:01Z",
        "pre_import_error": "it broke",
        "tag_import": False,
        "blob_import": False,
        "repositories_count": 0,
        "tags_count": 0,
        "manifests_count": 0,
        "blobs_count": 2,
        "blobs_size_bytes": 5_000_000_000,
        "storage_driver": "",
    }


def test_the_statistics_take_one_statement(api, cursor):
    cursor.execute(RUN)
    with counted_statements(connections["registry"].connection) as count:
        assert api.get(PATH, SCOPE).status_code == 200
    assert count() == 1
