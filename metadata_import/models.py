"""The journal of imports: our own tables, in the schema `registry_admin`. No logic.

A row is written in the transaction of what it records, so that a run that was killed goes on exactly where it was.
"""

import uuid

from django.db import models
from django.db.models.functions import Collate, Left, Now

from metadata_import.statistics import ImportKind

KINDS = [(kind.value, kind.value.replace("_", " ")) for kind in ImportKind]


class ImportStatus(models.TextChoices):
    """Where a run stands; all but the last two are open, and the next run of the same kind goes on with them."""

    RUNNING = "running"  # under way, or killed
    INTERRUPTED = "interrupted"  # stopped by whoever ran it
    FAILED = "failed"  # ended by an error, or with items left out that may be sound
    FINISHED = "finished"  # came to its end
    ABANDONED = "abandoned"  # given up for a run from the start


class ImportRun(models.Model):
    """One import of one tree, over all attempts that it took."""

    storage_driver = models.TextField()
    root = models.TextField()
    mode = models.TextField()
    status = models.TextField(choices=ImportStatus.choices, default=ImportStatus.RUNNING)
    actor = models.TextField(default="", db_default="")
    attempts = models.PositiveIntegerField(default=1, db_default=1)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    error = models.TextField(default="", db_default="")
    repositories_started_at = models.DateTimeField(null=True)
    repositories_finished_at = models.DateTimeField(null=True)
    blobs_started_at = models.DateTimeField(null=True)
    blobs_finished_at = models.DateTimeField(null=True)
    is_marked = models.BooleanField(default=False, db_default=False)  # the storage says that a database manages it
    report = models.JSONField(null=True)  # what the last attempt came to, once it has ended; without the skips

    class Meta:
        db_table = '"registry_admin"."import_runs"'
        default_permissions = ("view",)
        indexes = (models.Index(fields=["storage_driver", "root", "id"], name="import_runs_of_tree"),)

    def __str__(self) -> str:
        return f"import {self.pk} of {self.root}"


class ImportItem(models.Model):
    """One repository or one prefix of blobs within a run; it is done once it has a time, with what was visited."""

    run_id = models.BigIntegerField()
    kind = models.TextField(choices=KINDS)
    name = models.TextField()
    finished_at = models.DateTimeField(null=True)
    tags = models.IntegerField(default=0, db_default=0)
    manifests = models.IntegerField(default=0, db_default=0)
    blobs = models.IntegerField(default=0, db_default=0)
    blobs_size_bytes = models.BigIntegerField(default=0, db_default=0)
    claim = models.UUIDField(null=True)  # of the task that works on it, where tasks do; no other may record anything
    error = models.TextField(default="", db_default="")  # why no task can do it; the run ends with that

    class Meta:
        db_table = '"registry_admin"."import_items"'
        constraints = (models.UniqueConstraint(fields=["run_id", "kind", "name"], name="import_items_of_run"),)

    def __str__(self) -> str:
        return self.name


class ImportBatch(models.Model):
    """One committed transaction of a run, and how many rows of which tables it inserted."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    run_id = models.BigIntegerField()
    kind = models.TextField(choices=KINDS)
    committed_at = models.DateTimeField(db_default=Now())
    inserted_rows = models.JSONField(default=dict)

    class Meta:
        db_table = '"registry_admin"."import_batches"'
        indexes = (models.Index(fields=["run_id"], name="import_batches_of_run"),)

    def __str__(self) -> str:
        return f"batch of import {self.run_id}"


class ImportSkip(models.Model):
    """Something that a run left out, and why; `item` is empty for what was passed over while looking around."""

    run_id = models.BigIntegerField()
    kind = models.TextField(choices=KINDS)
    item = models.TextField(default="", db_default="")
    reason = models.TextField()
    path = models.TextField()
    detail = models.TextField(default="", db_default="")

    class Meta:
        db_table = '"registry_admin"."import_skips"'
        indexes = (
            models.Index(fields=["run_id", "kind", "item"], name="import_skips_of_item"),
            # Of a path only what an index takes, whatever its letters.
            models.Index("run_id", "reason", Collate(Left("path", 500), "C"), name="import_skips_of_reason"),
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.path}"


class ImportLease(models.Model):
    """The one row that an import holds while it runs, so that there is one at a time.

    Each batch locks the row by its token, which is unique: nobody can take the lease away in the midst of a batch.
    """

    name = models.TextField(primary_key=True)
    token = models.UUIDField(unique=True)
    holder = models.TextField()
    backend_pid = models.IntegerField(null=True)  # of the holder's session; none where a pooler stands between
    taken_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = '"registry_admin"."import_leases"'

    def __str__(self) -> str:
        return self.holder
