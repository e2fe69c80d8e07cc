"""Records become rows, in bulk, once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from metadata_import import media_types
from metadata_import.manifests import OCI_IMAGE, OCI_INDEX
from metadata_import.records import Blob, Config, Layer, Manifest, RepositoryPart, Skip, SkipReason, Tag
from metadata_import.store import Store
from tests.metadata_import.trees import OCI_CONFIG, OCI_LAYER, digest_of, stored

PUBLISHED = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = (
    "top_level_namespaces",
    "repositories",
    "blobs",
    "repository_blobs",
    "manifests",
    "layers",
    "manifest_references",
    "tags",
)


@pytest.fixture
def connection(committed_db):
    return connections["registry"]


@pytest.fixture
def store(connection) -> Store:
    return Store(connection)


def image(name: str, *, layers: tuple[str, ...] = ("a", "b"), **more) -> Manifest:
    return Manifest(
        digest=digest_of(name.encode()),
        media_type=OCI_IMAGE,
        schema_version=2,
        payload=name.encode(),
        total_size=100,
        config=Config(digest_of(f"config {name}".encode()), 5, OCI_CONFIG, b"{}"),
        layers=tuple(Layer(digest_of(layer.encode()), 10, OCI_LAYER) for layer in layers),
        **more,
    )


def index(name: str, children: tuple[Manifest, ...]) -> Manifest:
    digests = tuple(child.digest for child in children)
    return Manifest(digest_of(name.encode()), OCI_INDEX, 2, name.encode(), 0, children=digests)


def part(path: str, *manifests: Manifest, tags: dict[str, Manifest] | None = None, **more) -> RepositoryPart:
    named = tuple(Tag(name, manifest.digest) for name, manifest in (tags or {}).items())
    return RepositoryPart(path, manifests, named, **more)


def write(store: Store, *parts: RepositoryPart):
    """Write what is shared, then the rest, as an import does."""
    with transaction.atomic(using="registry"):
        shared = store.write_shared(parts)
    with transaction.atomic(using="registry"):
        written = store.write_repositories(parts, published_at=PUBLISHED)
    return replace(written, rows={**shared, **written.rows})


def rows(statement: str, *values):
    with connections["registry"].cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def snapshot() -> dict[str, list]:
    return {table: sorted(rows(f"SELECT * FROM {table}"), key=str) for table in TABLES}


def sequences() -> list:
    return rows("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2")


def test_an_image_has_all_its_rows(store):
    one = image("one", non_distributable_layers=True, artifact_media_type="application/x.new")
    written = write(store, part("group/app", one, tags={"v1": one, "v2": one}))
    assert rows("SELECT path, name, parent_id, last_published_at FROM repositories") == [
        ("group/app", "app", None, PUBLISHED)
    ]
    ((media_type, config_type, artifact_type, *others),) = rows(
        """
        SELECT t.media_type, c.media_type, a.media_type, m.digest, m.payload, m.schema_version, m.total_size,
            m.configuration_blob_digest, m.configuration_payload, m.non_conformant, m.non_distributable_layers
        FROM manifests m
        JOIN media_types t ON t.id = m.media_type_id
        JOIN media_types c ON c.id = m.configuration_media_type_id
        JOIN media_types a ON a.id = m.artifact_media_type_id
        """
    )
    assert (media_type, config_type, artifact_type) == (OCI_IMAGE, OCI_CONFIG, "application/x.new")
    assert others == [stored(one.digest), b"one", 2, 100, stored(one.config.digest), b"{}", False, True]
    assert rows("SELECT digest, size FROM layers ORDER BY id") == [(stored(layer.digest), 10) for layer in one.layers]
    assert rows("SELECT name FROM tags ORDER BY id") == [("v1",), ("v2",)]
    assert {table: written.rows[table] for table in TABLES} == {
        "top_level_namespaces": 1,
        "repositories": 1,
        "blobs": 3,
        "repository_blobs": 3,
        "manifests": 1,
        "layers": 2,
        "manifest_references": 0,
        "tags": 2,
    }
    assert written.skips == ()


def test_a_second_write_changes_nothing_and_uses_up_no_ids(store):
    one, two = image("one"), image("two", layers=("b", "c"))
    both = index("both", (one, two))
    parts = (part("a", one, two, both, tags={"t": both}), part("a/b", one, tags={"t": one}), part("c"))
    write(store, *parts)
    before, used = snapshot(), sequences()
    assert write(store, *parts).rows == dict.fromkeys(TABLES, 0)
    assert (snapshot(), sequences()) == (before, used)


def test_the_first_size_of_a_blob_wins_within_a_write_and_across(store):
    shared = digest_of(b"shared")
    first, second = (
        image(str(size), layers=()).__class__(
            digest_of(str(size).encode()), OCI_IMAGE, 2, b"{}", 0, layers=(Layer(shared, size, OCI_LAYER),)
        )
        for size in (10, 20)
    )
    write(store, part("a", first), part("b", second))
    write(store, part("c", second))
    assert rows("SELECT size FROM blobs") == [(10,)]
    assert rows("SELECT DISTINCT size FROM layers") == [(10,)]


def test_a_layer_named_twice_is_one_row_with_the_first_media_type(store):
    twice = (Layer(digest_of(b"a"), 1, OCI_LAYER), Layer(digest_of(b"a"), 1, "application/other"))
    write(store, part("a", Manifest(digest_of(b"m"), OCI_IMAGE, 2, b"{}", 0, layers=twice)))
    assert rows("SELECT t.media_type FROM layers l JOIN media_types t ON t.id = l.media_type_id") == [(OCI_LAYER,)]


def test_subjects_of_subjects_are_linked(store):
    base = image("base")
    signature = image("signature", subject=base.digest)
    attestation = image("attestation", subject=signature.digest)
    write(store, part("a", base, signature, attestation))
    linked = dict(rows("SELECT m.payload, s.payload FROM manifests m LEFT JOIN manifests s ON s.id = m.subject_id"))
    assert linked == {b"base": None, b"signature": b"base", b"attestation": b"signature"}


def test_references_keep_their_order_and_no_manifest_names_itself(store):
    one, two = image("one"), image("two")
    both = index("both", (two, one, two))
    selfish = Manifest(digest_of(b"selfish"), OCI_INDEX, 2, b"{}", 0, children=(digest_of(b"selfish"),))
    write(store, part("a", one, two, both, selfish))
    children = rows("SELECT m.payload FROM manifest_references r JOIN manifests m ON m.id = r.child_id ORDER BY r.id")
    assert children == [(b"two",), (b"one",)]


def test_parts_of_one_repository_meet_across_writes(store):
    one = image("one")
    write(store, part("a", one, is_last=False))
    assert rows("SELECT last_published_at FROM repositories") == [(None,)]
    write(store, part("a", tags={"t": one}))
    assert rows("SELECT t.name, m.payload FROM tags t JOIN manifests m ON m.id = t.manifest_id") == [("t", b"one")]
    assert rows("SELECT last_published_at FROM repositories") == [(PUBLISHED,)]


def test_an_unreadable_repository_was_never_published(store):
    write(store, part("a", is_readable=False))
    assert rows("SELECT path, last_published_at FROM repositories") == [("a", None)]


def test_a_deleted_repository_comes_back(store):
    write(store, part("a"))
    rows("UPDATE repositories SET deleted_at = now() RETURNING id")
    write(store, part("a"))
    assert rows("SELECT path, deleted_at FROM repositories") == [("a", None)]


def test_a_tag_moves_to_another_manifest(store):
    one, two = image("one"), image("two")
    write(store, part("a", one, tags={"t": one}))
    write(store, part("a", two, tags={"t": two}))
    ((payload, updated_at),) = rows(
        "SELECT m.payload, t.updated_at FROM tags t JOIN manifests m ON m.id = t.manifest_id"
    )
    assert payload == b"two"
    assert updated_at is not None


def test_a_tag_without_a_manifest_is_reported(store):
    written = write(store, part("a", tags={"t": image("nowhere")}))
    path = "docker/registry/v2/repositories/a/_manifests/tags/t/current/link"
    assert written.skips == (Skip(SkipReason.TAG_WITHOUT_MANIFEST, path),)
    assert rows("SELECT count(*) FROM tags") == [(0,)]


def test_when_ids_run_out_layers_fall_back_and_manifests_are_left_out(store, monkeypatch):
    monkeypatch.setattr(media_types, "CREATED_ID_LIMIT", 0)
    odd_config = Manifest(
        digest_of(b"odd"), OCI_IMAGE, 2, b"odd", 0, config=Config(digest_of(b"c"), 1, "application/new.config", b"")
    )
    odd_layer = Manifest(
        digest_of(b"layer"), OCI_IMAGE, 2, b"layer", 0, layers=(Layer(digest_of(b"l"), 1, "application/new.layer"),)
    )
    written = write(store, part("a", odd_config, odd_layer, tags={"lost": odd_config, "kept": odd_layer}))
    assert {skip.reason for skip in written.skips} == {
        SkipReason.MEDIA_TYPES_EXHAUSTED,
        SkipReason.TAG_WITHOUT_MANIFEST,
    }
    assert rows("SELECT name FROM tags") == [("kept",)]
    assert rows("SELECT t.media_type FROM layers l JOIN media_types t ON t.id = l.media_type_id") == [
        ("application/octet-stream",)
    ]
    assert rows("SELECT count(*) FROM blobs") == [(1,)]


def test_blobs_of_a_manifest_that_is_left_out_are_not_written(store, monkeypatch):
    monkeypatch.setattr(media_types, "CREATED_ID_LIMIT", 0)
    write(store, part("a", replace(image("odd"), artifact_media_type="application/x.new")))
    assert (rows("SELECT count(*) FROM blobs"), rows("SELECT count(*) FROM repository_blobs")) == ([(0,)], [(0,)])


def test_unknown_media_types_stay_unknown_where_none_is_to_be_created(connection):
    fixed = Store(connection, dynamic_media_types=False)
    new_layer = replace(image("layer"), layers=(Layer(digest_of(b"l"), 1, "application/new.layer"),))
    new_config = replace(image("config"), config=Config(digest_of(b"c"), 1, "application/new.config", b""))
    written = write(fixed, part("a", new_layer, new_config, tags={"kept": new_layer}))
    assert [skip.reason for skip in written.skips] == [SkipReason.MEDIA_TYPE_UNKNOWN]
    assert rows("SELECT t.media_type FROM layers l JOIN media_types t ON t.id = l.media_type_id") == [
        ("application/octet-stream",)
    ]
    assert rows("SELECT count(*) FROM media_types WHERE media_type LIKE 'application/new%%'") == [(0,)]


def test_repositories_with_a_tag_on_an_unknown_manifest_are_found(store):
    one = image("one")
    write(store, part("a", one), part("b"))
    parts = [part("a", tags={"t": one}), part("b", tags={"t": one}), part("c", tags={"t": one}), part("d")]
    assert store.find_unknown(parts) == {"b", "c"}


def test_a_repository_is_not_published_again_when_tags_alone_are_written(store):
    write(store, part("a"))
    with transaction.atomic(using="registry"):
        store.write_repositories([part("a")], published_at=PUBLISHED + timedelta(days=1), publish_again=False)
    assert rows("SELECT last_published_at FROM repositories") == [(PUBLISHED,)]


def test_a_media_type_of_a_rolled_back_write_is_created_again(store):
    new = image("one", artifact_media_type="application/x.fresh")
    with transaction.atomic(using="registry"):
        store.write_shared([part("a", new)])
        transaction.set_rollback(True, using="registry")
    write(store, part("a", new))
    assert rows("SELECT count(*) FROM media_types WHERE media_type = 'application/x.fresh'") == [(1,)]


def test_one_transaction_may_write_many_times(store):
    with transaction.atomic(using="registry"):
        for name in ("one", "two"):
            parts = [part(name, image(name), tags={"t": image(name)})]
            store.write_shared(parts)
            store.write_repositories(parts, published_at=PUBLISHED)
            store.write_blobs([Blob(digest_of(name.encode()), 3)])
    assert rows("SELECT count(*) FROM tags") == [(2,)]


def test_common_blobs_are_added_only_where_unknown(store):
    write(store, part("a", image("one", layers=("a",))))
    blobs = [Blob(digest_of(b"a"), 999), Blob(digest_of(b"new"), 7), Blob(digest_of(b"new"), 8)]
    with transaction.atomic(using="registry"):
        assert store.write_blobs(blobs).rows == {"blobs": 1}
    sizes = dict(rows("SELECT digest, size FROM blobs"))
    assert (sizes[stored(digest_of(b"a"))], sizes[stored(digest_of(b"new"))]) == (10, 7)
    assert rows("SELECT DISTINCT t.media_type FROM blobs b JOIN media_types t ON t.id = b.media_type_id") == [
        ("application/octet-stream",)
    ]
    assert rows("SELECT count(*) FROM repository_blobs") == [(2,)]


def test_the_number_of_statements_does_not_grow_with_the_records(store, connection):
    def statements(count: int) -> int:
        images = [image(f"{count} {n}", layers=tuple(f"{n} {k}" for k in range(count))) for n in range(count)]
        tags = {f"t{n}": each for n, each in enumerate(images)}
        parts = [part(f"{count}/{n}", *images, tags=tags) for n in range(count)]
        with CaptureQueriesContext(connection) as captured:
            write(store, *parts)
        return len(captured)

    write(store, part("known", image("known")))
    assert statements(2) == statements(10) < 40


def test_a_partition_is_analyzed_when_it_has_doubled(store, connection):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            store.analyze_grown()
        return len(captured)

    rows_of = "SELECT reltuples::int FROM pg_class WHERE oid = (SELECT tableoid FROM {} LIMIT 1)"
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE top_level_namespaces CASCADE")
    write(store, part("small", image("small")))
    assert (queries(), rows(rows_of.format("manifests"))) == (1, [(-1,)])
    images = [image(f"{number} {'a long payload' * 100}") for number in range(200)]
    write(store, part("small", *images))
    assert (queries(), rows(rows_of.format("manifests"))) == (2, [(201,)])
    write(store, part("small", image("another")))
    assert queries() == 1
