"""The real command against trees that a real registry wrote, compared with what skopeo says of that registry."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.e2e.registry import (
    OCI_IMAGE,
    TINY_IMAGE,
    Registry,
    UmociLayout,
    push_sample,
    running_registry,
)
from tests.object_servers import new_bucket, s3_buckets
from tests.programs import require_programs

pytestmark = pytest.mark.e2e

PROJECT = Path(__file__).parents[2]
REPOSITORIES = ("base", "group/app", "group/app/worker", "group/sub/project", "other/tools")


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[Registry]:
    """A running registry that holds the sample."""
    require_programs("docker-registry", "skopeo")
    directory = tmp_path_factory.mktemp("e2e")
    with running_registry(directory / "root") as registry:
        push_sample(registry, directory / "layout")
        yield registry


@pytest.fixture
def database(create_database: Callable[..., Database], template_database: Database) -> Database:
    return create_database(template="registry_template")


def run_import(root: Path, database: Database, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": database.url, "SECRET_KEY": "only-for-tests"}
    environment.pop("REGISTRY_DATABASE_URL", None)
    command = [sys.executable, str(PROJECT / "manage.py"), "database", "import", str(root), *options]
    return subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)


def digest(payload: bytes) -> str:
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def tagged_manifests(connection: psycopg.Connection) -> dict[tuple[str, str], tuple[str, bytes, int]]:
    """Return digest, payload and size by repository and tag."""
    found = connection.execute(
        """
        SELECT r.path, t.name, 'sha256:' || substr(encode(m.digest, 'hex'), 3), m.payload, m.total_size
        FROM tags t
        JOIN manifests m ON m.id = t.manifest_id AND m.repository_id = t.repository_id
        JOIN repositories r ON r.id = t.repository_id
        """
    ).fetchall()
    return {(path, tag): (name, payload, size) for path, tag, name, payload, size in found}


def layers_of(connection: psycopg.Connection, path: str, payload: bytes) -> list[tuple[str, int, str]]:
    return connection.execute(
        """
        SELECT 'sha256:' || substr(encode(l.digest, 'hex'), 3), l.size, y.media_type
        FROM layers l
        JOIN manifests m ON m.id = l.manifest_id AND m.repository_id = l.repository_id
        JOIN repositories r ON r.id = l.repository_id
        JOIN media_types y ON y.id = l.media_type_id
        WHERE r.path = %s AND m.payload = %s
        ORDER BY l.id
        """,
        (path, payload),
    ).fetchall()


def children_of(connection: psycopg.Connection, path: str, payload: bytes) -> list[str]:
    found = connection.execute(
        """
        SELECT 'sha256:' || substr(encode(c.digest, 'hex'), 3)
        FROM manifest_references f
        JOIN manifests p ON p.id = f.parent_id
        JOIN manifests c ON c.id = f.child_id
        JOIN repositories r ON r.id = f.repository_id
        WHERE r.path = %s AND p.payload = %s
        ORDER BY f.id
        """,
        (path, payload),
    ).fetchall()
    return [child for (child,) in found]


def check_manifest(connection: psycopg.Connection, registry: Registry, path: str, payload: bytes) -> None:
    """Compare one manifest's layers or children, all the way down, with what the registry serves."""
    content: dict[str, Any] = json.loads(payload)
    listed = [(each["digest"], each["size"], each["mediaType"]) for each in content.get("layers", [])]
    assert layers_of(connection, path, payload) == list(dict.fromkeys(listed))
    children = [child["digest"] for child in content.get("manifests", [])]
    assert children_of(connection, path, payload) == children
    for child in children:
        check_manifest(connection, registry, path, registry.raw(f"{path}@{child}"))


def test_the_database_says_what_the_registry_says(registry, database):
    before = {path for path in registry.root.rglob("*") if path.is_file()}
    dry = run_import(registry.root, database, "--json", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    with database.connect() as connection:
        assert tagged_manifests(connection) == {}
    assert {path for path in registry.root.rglob("*") if path.is_file()} == before

    result = run_import(registry.root, database, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["skips"] == {}
    assert report["counts"] == json.loads(dry.stdout)["counts"]

    with database.connect() as connection:
        tagged = tagged_manifests(connection)
        assert report["counts"]["tags"] == len(tagged)
        for path in REPOSITORIES:
            assert {tag for repository, tag in tagged if repository == path} == registry.tags(path)
        for (path, tag), (stored_digest, payload, size) in tagged.items():
            raw = registry.raw(f"{path}:{tag}")
            assert (payload, stored_digest) == (raw, digest(raw))
            content = json.loads(raw)
            blobs = [content["config"], *content["layers"]] if "config" in content else []
            assert size == (sum(blob["size"] for blob in blobs) + len(raw) if blobs else 0)
            check_manifest(connection, registry, path, raw)
        inspected = registry.inspect("group/app:1.0")
        payload = tagged["group/app", "1.0"][1]
        assert inspected["Digest"] == tagged["group/app", "1.0"][0]
        assert inspected["Layers"] == [layer for layer, _size, _type in layers_of(connection, "group/app", payload)]

    compared = run_import(registry.root, database, "--verify")
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_registry_on_s3_is_imported_by_its_own_configuration(tmp_path, database):
    require_programs("docker-registry", "skopeo")
    with s3_buckets() as buckets:
        keys = {"bucket": new_bucket(buckets.port), "region": "us-east-1", "rootdirectory": "/some/prefix"}
        keys |= {"regionendpoint": f"http://127.0.0.1:{buckets.port}", "accesskey": "key", "secretkey": "very-secret"}
        storage = f"s3: {json.dumps({**keys, 'secure': False, 'v4auth': True})}"
        with running_registry(tmp_path / "root", storage=storage) as registry:
            push_sample(registry, tmp_path / "layout")
            done = run_import(registry.config, database, "--json")
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout)
            assert (report["skips"], report["is_marked"]) == ({}, True)
            with database.connect() as connection:
                tagged = tagged_manifests(connection)
                for path in REPOSITORIES:
                    assert {tag for repository, tag in tagged if repository == path} == registry.tags(path)
                for path, tag in (("group/app", "2.0"), ("group/sub/project", "docker-list")):
                    payload = tagged[path, tag][1]
                    assert payload == registry.raw(f"{path}:{tag}")
                    check_manifest(connection, registry, path, payload)
            compared = run_import(registry.config, database, "--verify")
            assert compared.returncode == 0, compared.stdout + compared.stderr
            refused = run_import(registry.config, database)
            assert refused.returncode == 1
    said = "".join(each.stdout + each.stderr for each in (done, compared, refused))
    assert "very-secret" not in said


def test_what_umoci_builds_is_imported(tmp_path, database):
    require_programs("docker-registry", "skopeo", "umoci")
    layout = UmociLayout(tmp_path / "umoci")
    layout.image("plain", ["one"])
    layout.image("layered", ["one", "two", "three"])
    with running_registry(tmp_path / "root") as registry:
        registry.push(layout, "plain", "umoci/plain:1")
        registry.push(layout, "layered", "umoci/layered:1")
        registry.push(layout, "layered", "umoci/layered:docker", docker=True)
        done = run_import(registry.root, database, "--json")
        assert (done.returncode, json.loads(done.stdout)["skips"]) == (0, {}), done.stderr
        with database.connect() as connection:
            tagged = tagged_manifests(connection)
            assert set(tagged) == {("umoci/plain", "1"), ("umoci/layered", "1"), ("umoci/layered", "docker")}
            for (path, tag), (stored_digest, payload, _size) in tagged.items():
                assert (payload, stored_digest) == (registry.raw(f"{path}:{tag}"), digest(payload))
                check_manifest(connection, registry, path, payload)
    assert run_import(tmp_path / "root", database, "--verify").returncode == 0


def test_signatures_come_along_and_steps_make_a_whole(registry, database):
    registry.put_tags("signed", "v1")
    content = {
        **json.loads(TINY_IMAGE),
        "artifactType": "application/vnd.example.signature",
        "subject": {"mediaType": OCI_IMAGE, "digest": digest(TINY_IMAGE), "size": len(TINY_IMAGE)},
    }
    signature = json.dumps(content).encode()
    registry.put_manifest("signed", digest(signature), signature, media_type=OCI_IMAGE)
    (registry.root / "docker/registry/lockfiles/database-in-use").unlink(missing_ok=True)
    for step in ("--step-one", "--step-two", "--step-three"):
        done = run_import(registry.root, database, step)
        assert done.returncode == 0, done.stderr
    with database.connect() as connection:
        found = connection.execute(
            """
            SELECT s.payload, a.media_type
            FROM manifests m
            JOIN manifests s ON s.id = m.subject_id AND s.repository_id = m.repository_id
            JOIN media_types a ON a.id = m.artifact_media_type_id
            """
        ).fetchall()
    assert found == [(TINY_IMAGE, "application/vnd.example.signature")]
    compared = run_import(registry.root, database, "--verify")
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_second_import_is_refused_before_it_touches_anything(registry_tree, database):
    assert run_import(registry_tree, database).returncode == 0
    locks = registry_tree / "docker/registry/lockfiles"
    assert [path.name for path in locks.iterdir()] == ["database-in-use"]
    second = run_import(registry_tree, database)
    assert second.returncode == 1
    assert "imported already" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert [path.name for path in locks.iterdir()] == ["database-in-use"]


def test_without_a_schema_the_command_names_the_one_that_makes_it(registry_tree, create_database):
    result = run_import(registry_tree, create_database())
    assert result.returncode == 1
    assert "python manage.py database migrate up" in result.stderr
    assert not (registry_tree / "docker/registry/lockfiles").exists()
