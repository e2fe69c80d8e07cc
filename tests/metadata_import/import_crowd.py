"""Many imports, one of which left much out, in few statements: what pages have to bear."""

import uuid

from psycopg import Connection

EMPTY_IMPORTS = """
    TRUNCATE registry_admin.import_runs, registry_admin.import_items, registry_admin.import_batches,
        registry_admin.import_skips, registry_admin.import_leases
"""
RUNS = """
    INSERT INTO registry_admin.import_runs
        (storage_driver, root, mode, status, actor, started_at, ended_at, repositories_started_at, report)
    SELECT 'filesystem', '/srv/registry', 'full', CASE number WHEN %(runs)s THEN 'running' ELSE 'failed' END,
        CASE number WHEN %(runs)s THEN 'crowd' ELSE 'somebody' END,
        clock_timestamp() - interval '1 hour', CASE WHEN number < %(runs)s THEN clock_timestamp() END,
        clock_timestamp() - interval '1 hour', NULL
    FROM generate_series(1, %(runs)s) AS number RETURNING id
"""
LEASE = """
    INSERT INTO registry_admin.import_leases (name, token, holder, taken_at, seen_at)
    VALUES ('import', %(token)s, 'crowd', clock_timestamp() - interval '1 hour', clock_timestamp() + interval '1 hour')
"""
ITEMS = """
    INSERT INTO registry_admin.import_items (run_id, kind, name, finished_at, tags, manifests)
    SELECT %(run)s, 'repository', 'group/project' || number,
        CASE WHEN number %% 2 = 0 THEN clock_timestamp() END, number %% 7, number %% 5
    FROM generate_series(1, %(items)s) AS number
"""
SKIPS = """
    INSERT INTO registry_admin.import_skips (run_id, kind, item, reason, path, detail)
    SELECT %(run)s, 'repository', 'group/project' || number %% 1000,
        (ARRAY['manifest_missing', 'tag_link_missing', 'layer_missing', 'storage_unreadable'])[1 + number %% 4],
        'docker/registry/v2/repositories/group/project' || number, 'detail'
    FROM generate_series(1, %(skips)s) AS number
"""


def make_imports(connection: Connection, *, runs: int = 200, items: int = 20_000, skips: int = 100_000) -> int:
    """Insert them, let the planner know, and return the one that runs and left much out."""
    *_, (running,) = connection.execute(RUNS, {"runs": runs})
    connection.execute(LEASE, {"token": uuid.uuid4()})
    connection.execute(ITEMS, {"run": running, "items": items})
    connection.execute(SKIPS, {"run": running, "skips": skips})
    for table in ("runs", "items", "skips"):
        connection.execute(f"ANALYZE registry_admin.import_{table}")
    return int(running)
