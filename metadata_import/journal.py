"""The journal of one run: what there is to import, what is done, what it amounted to and what was left out.

Whatever is recorded is recorded in the caller's transaction, the one that does what is recorded.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Jsonb

from metadata_import import layout
from metadata_import.errors import LeaseLostError
from metadata_import.records import Skip, SkipReason
from metadata_import.statistics import Counts, ImportKind

# Nobody takes the lease away while a batch has this lock; the beats of the holder do not mind it.
LOCK_LEASE = """
    SELECT EXISTS (SELECT FROM registry_admin.import_batches WHERE id = %(batch)s)
    FROM registry_admin.import_leases WHERE token = %(token)s FOR KEY SHARE
"""
INSERT_ITEMS = """
    INSERT INTO registry_admin.import_items (run_id, kind, name)
    SELECT %(run)s, %(kind)s, n.name FROM unnest(%(names)s::text[]) AS n (name)
    ON CONFLICT (run_id, kind, name) DO NOTHING
"""
FIND_PENDING = """
    SELECT name FROM registry_admin.import_items
    WHERE run_id = %(run)s AND kind = %(kind)s AND finished_at IS NULL
    ORDER BY name COLLATE "C"
"""
# What was begun and not finished is read anew, and so is what left something out that may be sound.
REOPEN_ITEMS = """
    UPDATE registry_admin.import_items i
    SET finished_at = NULL, tags = 0, manifests = 0, blobs = 0, blobs_size_bytes = 0, claim = NULL, error = ''
    WHERE i.run_id = %(run)s AND (
        (
            i.finished_at IS NULL
            AND num_nonnulls(nullif(i.tags, 0), nullif(i.blobs, 0), i.claim, nullif(i.error, '')) > 0
        )
        OR EXISTS (
            SELECT FROM registry_admin.import_skips s
            WHERE s.run_id = i.run_id AND s.kind = i.kind AND s.item = i.name AND s.reason = ANY (%(reasons)s)
        )
    )
"""
FORGET_SKIPS = """
    DELETE FROM registry_admin.import_skips s
    WHERE s.run_id = %(run)s AND (
        s.item = '' OR NOT EXISTS (
            SELECT FROM registry_admin.import_items i
            WHERE i.run_id = s.run_id AND i.kind = s.kind AND i.name = s.item AND i.finished_at IS NOT NULL
        )
    )
"""
RESET_ITEMS = """
    WITH forgotten AS (
        DELETE FROM registry_admin.import_skips
        WHERE run_id = %(run)s AND kind = %(kind)s AND item = ANY (%(names)s)
    )
    UPDATE registry_admin.import_items
    SET finished_at = NULL, tags = 0, manifests = 0, blobs = 0, blobs_size_bytes = 0
    WHERE run_id = %(run)s AND kind = %(kind)s AND name = ANY (%(names)s)
"""
RECORD_ITEMS = """
    UPDATE registry_admin.import_items i
    SET tags = i.tags + n.tags, manifests = i.manifests + n.manifests, blobs = i.blobs + n.blobs,
        blobs_size_bytes = i.blobs_size_bytes + n.blobs_size_bytes,
        finished_at = CASE WHEN n.is_finished THEN %(now)s END
    FROM unnest(
        %(names)s::text[], %(tags)s::int[], %(manifests)s::int[], %(blobs)s::int[], %(sizes)s::int8[],
        %(finished)s::bool[]
    ) AS n (name, tags, manifests, blobs, blobs_size_bytes, is_finished)
    WHERE i.run_id = %(run)s AND i.kind = %(kind)s AND i.name = n.name AND i.claim IS NOT DISTINCT FROM %(claim)s::uuid
"""
# A task that begins anew forgets what one before it has done, whose claim counts no longer.
CLAIM_ITEMS = """
    UPDATE registry_admin.import_items
    SET claim = %(claim)s, tags = 0, manifests = 0, blobs = 0, blobs_size_bytes = 0, error = ''
    WHERE run_id = %(run)s AND kind = %(kind)s AND name = ANY (%(names)s) AND finished_at IS NULL
        AND EXISTS (SELECT FROM registry_admin.import_leases WHERE token = %(token)s)
    RETURNING name
"""
FORGET_SKIPS_OF_ITEMS = """
    DELETE FROM registry_admin.import_skips WHERE run_id = %(run)s AND kind = %(kind)s AND item = ANY (%(names)s)
"""
RECORD_ERROR = """
    UPDATE registry_admin.import_items SET error = %(error)s
    WHERE run_id = %(run)s AND kind = %(kind)s AND claim = %(claim)s AND finished_at IS NULL
"""
FIND_ERROR = """
    SELECT error FROM registry_admin.import_items
    WHERE run_id = %(run)s AND kind = %(kind)s AND error <> '' LIMIT 1
"""
HOLDS_LEASE = "SELECT FROM registry_admin.import_leases WHERE token = %(token)s"
RECORD_BATCH = """
    INSERT INTO registry_admin.import_batches (id, run_id, kind, inserted_rows)
    VALUES (%(batch)s, %(run)s, %(kind)s, %(rows)s)
"""
RECORD_SKIPS = """
    INSERT INTO registry_admin.import_skips (run_id, kind, item, reason, path, detail)
    SELECT %(run)s, %(kind)s, s.* FROM unnest(
        %(items)s::text[], %(reasons)s::text[], %(paths)s::text[], %(details)s::text[]
    ) AS s (item, reason, path, detail)
"""
COUNT = """
    SELECT count(*) FILTER (WHERE kind = 'repository' AND finished_at IS NOT NULL),
        coalesce(sum(tags), 0), coalesce(sum(manifests), 0), coalesce(sum(blobs), 0),
        coalesce(sum(blobs_size_bytes), 0)
    FROM registry_admin.import_items WHERE run_id = %(run)s
"""
COUNT_ITEMS = """
    SELECT count(finished_at), count(*) FROM registry_admin.import_items WHERE run_id = %(run)s AND kind = %(kind)s
"""
SUM_INSERTED = """
    SELECT r.key, sum(r.value::int8)::int8
    FROM registry_admin.import_batches b, jsonb_each_text(b.inserted_rows) r
    WHERE b.run_id = %(run)s
    GROUP BY r.key
"""
# One child of two indexes is read, and found wanting, twice.
FIND_SKIPS = """
    SELECT s.reason, s.path, s.detail FROM (
        SELECT DISTINCT ON (reason, path) * FROM registry_admin.import_skips
        WHERE run_id = %(run)s ORDER BY reason, path, id
    ) s ORDER BY s.id
"""
# Rows of the journal outlive the tables that they tell of, if somebody empties those.
FIND_RECENT = """
    SELECT i.name
    FROM registry_admin.import_items i
    JOIN registry_admin.import_runs r ON r.id = i.run_id
    WHERE (r.storage_driver, r.root, r.mode) = (
            SELECT storage_driver, root, mode FROM registry_admin.import_runs WHERE id = %(run)s
        )
        AND r.id <> %(run)s AND i.kind = 'repository' AND i.finished_at > %(since)s
        AND EXISTS (SELECT FROM public.repositories p WHERE p.path = i.name AND p.deleted_at IS NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a batch did for one item."""

    name: str
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    blobs_size_bytes: int = 0
    is_finished: bool = True


class Journal:
    """The records of one run, which holds the lease with this token."""

    def __init__(
        self, connection: BaseDatabaseWrapper, *, run_id: int, token: uuid.UUID, claim: uuid.UUID | None = None
    ) -> None:
        self._connection, self._run_id, self.token, self._claim = connection, run_id, token, claim

    def begin_batch(self, batch: uuid.UUID) -> bool:
        """Lock the lease for a transaction; False means that this batch was committed before.

        Raises LeaseLostError when somebody else has the lease.
        """
        found = self._fetch(LOCK_LEASE, batch=batch, token=self.token)
        if not found:
            raise LeaseLostError
        return not found[0][0]

    def claim(self, kind: ImportKind, names: Iterable[str]) -> list[str]:
        """Begin items anew under this journal's claim; return those that are still to be done, sorted.

        Whoever had them before can record nothing more of them.
        """
        with transaction.atomic(using=self._connection.alias):
            spelled = [spell(name) for name in names]
            claimed = self._fetch(CLAIM_ITEMS, kind=kind, names=spelled, claim=self._claim, token=self.token)
            found = sorted(name for (name,) in claimed)
            if found:
                self._execute(FORGET_SKIPS_OF_ITEMS, kind=kind, names=found)
        return [read_spelled(name) for name in found]

    def record_error(self, kind: ImportKind, error: str) -> None:
        """Record why items under this claim cannot be done, unless somebody else has them by now."""
        self._execute(RECORD_ERROR, kind=kind, claim=self._claim, error=error)

    def error(self, kind: ImportKind) -> str:
        """Return why one of the items could not be done, or nothing."""
        found = self._fetch(FIND_ERROR, kind=kind)
        return str(found[0][0]) if found else ""

    def holds_lease(self) -> bool:
        """Tell whether nobody else has taken the lease."""
        return bool(self._fetch(HOLDS_LEASE, token=self.token))

    def plan(self, kind: ImportKind, names: Iterable[str]) -> None:
        """Add what is there to be imported; what is known already stays as it is."""
        self._execute(INSERT_ITEMS, kind=kind, names=[spell(name) for name in names])

    def pending(self, kind: ImportKind) -> list[str]:
        """Return what is not done yet, sorted."""
        return [read_spelled(name) for (name,) in self._fetch(FIND_PENDING, kind=kind)]

    def reopen(self, reasons: Iterable[SkipReason]) -> None:
        """Make ready for another attempt; items with a skip for one of these reasons are to be done again."""
        self._execute(REOPEN_ITEMS, reasons=list(reasons))
        self._execute(FORGET_SKIPS)

    def reset(self, kind: ImportKind, names: Iterable[str]) -> None:
        """Forget what was recorded of these items: they are done again."""
        self._execute(RESET_ITEMS, kind=kind, names=[spell(name) for name in names])

    def record_batch(
        self, kind: ImportKind, batch: uuid.UUID, *, done: Sequence[Done], rows: Mapping[str, int], now: datetime
    ) -> None:
        """Record what a batch did. Raises LeaseLostError when an item is somebody else's by now."""
        if done and self._record_items(kind, done, now) < len(done):
            raise LeaseLostError
        self._execute(RECORD_BATCH, kind=kind, batch=batch, rows=Jsonb(rows))

    def record_skips(self, kind: ImportKind, skips: Sequence[tuple[str, Skip]]) -> None:
        """Record what was left out, with the name of the item it belongs to or none."""
        if skips:
            self._execute(
                RECORD_SKIPS,
                kind=kind,
                items=[spell(item) for item, _ in skips],
                reasons=[skip.reason for _, skip in skips],
                paths=[layout.printable(skip.path) for _, skip in skips],
                details=[layout.printable(skip.detail) for _, skip in skips],
            )

    def count(self) -> Counts:
        """Return what was visited so far."""
        ((repositories, tags, manifests, blobs, size),) = self._fetch(COUNT)
        return Counts(repositories, tags, manifests, blobs, int(size))

    def count_items(self, kind: ImportKind) -> tuple[int, int]:
        """Return how many are done, of how many."""
        ((done, total),) = self._fetch(COUNT_ITEMS, kind=kind)
        return done, total

    def inserted_rows(self) -> dict[str, int]:
        """Return how many rows were inserted, by table."""
        return dict(self._fetch(SUM_INSERTED))

    def skips(self) -> tuple[Skip, ...]:
        """Return what was left out, each item once for each reason."""
        return tuple(Skip(SkipReason(reason), path, detail) for reason, path, detail in self._fetch(FIND_SKIPS))

    def recent(self, since: datetime) -> set[str]:
        """Return the repositories that an earlier run of the same kind has finished after that time."""
        return {name for (name,) in self._fetch(FIND_RECENT, since=since)}

    def _record_items(self, kind: ImportKind, done: Sequence[Done], now: datetime) -> int:
        return self._execute(
            RECORD_ITEMS,
            kind=kind,
            names=[spell(each.name) for each in done],
            tags=[each.tags for each in done],
            manifests=[each.manifests for each in done],
            blobs=[each.blobs for each in done],
            sizes=[each.blobs_size_bytes for each in done],
            finished=[each.is_finished for each in done],
            claim=self._claim,
            now=now,
        )

    def _execute(self, statement: str, **values: Any) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, {"run": self._run_id, **values})
            return int(cursor.rowcount)

    def _fetch(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, {"run": self._run_id, **values})
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def spell(name: str) -> str:
    """Spell a name in ASCII: directories need not be text. What a registry writes stays as it is."""
    return quote(name, safe="/:", errors="surrogateescape")


def read_spelled(name: str) -> str:
    """Return the name that is spelled like this."""
    return unquote(name, errors="surrogateescape")
