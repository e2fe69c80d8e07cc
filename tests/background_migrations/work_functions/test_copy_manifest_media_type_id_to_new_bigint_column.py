"""Manifests older than the trigger get the wider twin of their media type."""

from background_migrations.work_functions import WORK_FUNCTIONS
from tests.background_migrations.work_functions.registry_rows import add_manifests, pairs, run_range

COPY = WORK_FUNCTIONS["copyManifestMediaTypeIDToNewBigIntColumn"]
TWINS = "SELECT id, media_type_id_convert_to_bigint FROM manifests"
MEDIA_TYPES = "SELECT id, media_type_id FROM manifests"


def test_twins_are_filled_in_the_range_alone(connection):
    add_manifests(connection, 20)
    media_types = pairs(connection, MEDIA_TYPES)
    assert run_range(connection, COPY, first=4, last=16) == 13
    assert pairs(connection, TWINS) == {id_: media_types[id_] if 4 <= id_ <= 16 else 0 for id_ in media_types}
    assert pairs(connection, MEDIA_TYPES) == media_types


def test_newer_manifests_are_not_written(connection):
    add_manifests(connection, 20)
    connection.execute("UPDATE manifests SET media_type_id = 9 WHERE id > 15")  # the trigger fills these
    assert run_range(connection, COPY) == 15
    assert run_range(connection, COPY) == 0
    assert pairs(connection, TWINS) == pairs(connection, MEDIA_TYPES)


def test_a_registry_without_the_trigger_is_filled_too(connection):
    add_manifests(connection, 20)
    connection.execute("DROP TRIGGER set_media_type_id_convert_to_bigint ON manifests")
    assert run_range(connection, COPY) == 20
    assert pairs(connection, TWINS) == pairs(connection, MEDIA_TYPES)
