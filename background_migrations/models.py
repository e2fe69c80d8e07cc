"""The tables: GitLab's two, unmanaged, and our own in the schema `registry_admin`. No logic.

Ours name the migration by its id without a foreign key: one would put triggers on a table that is not ours.
"""

from django.db import models
from django.db.models.functions import Now

from background_migrations.status import FailureErrorCode, Status

STATUSES = [(status.value, status.label) for status in Status]
FAILURES = [(code.value, code.name.lower()) for code in FailureErrorCode]


class BackgroundMigration(models.Model):
    """A large data change, done batch by batch."""

    name = models.TextField(unique=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    min_value = models.BigIntegerField(default=1)
    max_value = models.BigIntegerField()
    batch_size = models.IntegerField()
    status = models.SmallIntegerField(choices=STATUSES, default=Status.PAUSED.value)
    job_signature_name = models.TextField()
    table_name = models.TextField()
    column_name = models.TextField()
    failure_error_code = models.SmallIntegerField(choices=FAILURES, null=True)
    batching_strategy = models.TextField(null=True)  # NULL is the name of the keyset strategy
    total_tuple_count = models.BigIntegerField(null=True)

    class Meta:
        managed = False
        db_table = "batched_background_migrations"
        default_permissions = ("view",)
        permissions = (
            ("operate_backgroundmigration", "Can pause, resume, retry, restart"),
            ("configure_backgroundmigration", "Can change controls"),
        )

    def __str__(self) -> str:
        return self.name


class BackgroundMigrationJob(models.Model):
    """One batch of a background migration; its bounds are inclusive."""

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    background_migration = models.ForeignKey(
        BackgroundMigration,
        on_delete=models.DO_NOTHING,
        db_column="batched_background_migration_id",
        related_name="jobs",
    )
    min_value = models.BigIntegerField()
    max_value = models.BigIntegerField()
    status = models.SmallIntegerField(choices=STATUSES, default=Status.ACTIVE.value)
    failure_error_code = models.SmallIntegerField(choices=FAILURES, null=True)
    attempts = models.SmallIntegerField(default=0)

    class Meta:
        managed = False
        db_table = "batched_background_migration_jobs"
        verbose_name = "job"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"job {self.pk} of {self.background_migration_id}"


class Control(models.Model):
    """How one background migration is to be run; NULL is the default of its work function or of the settings.

    Also what keeps it from running now: `throttled_by` names the signal, empty when nothing does.
    """

    background_migration_id = models.BigIntegerField(primary_key=True)
    batch_size = models.PositiveIntegerField(null=True, blank=True)
    sub_batch_size = models.PositiveIntegerField(null=True, blank=True)
    interval_seconds = models.FloatField(null=True, blank=True)
    max_parallel_jobs = models.PositiveSmallIntegerField(null=True, blank=True)
    hold_until = models.DateTimeField(null=True, blank=True)
    job_timeout_seconds = models.FloatField(null=True, blank=True)
    adaptive = models.BooleanField(null=True, blank=True)
    target_seconds = models.FloatField(null=True, blank=True)
    min_batch_size = models.PositiveIntegerField(null=True, blank=True)
    max_batch_size = models.PositiveIntegerField(null=True, blank=True)
    shares_table = models.BooleanField(null=True, blank=True)
    throttled_by = models.TextField(default="", db_default="", editable=False)
    throttled_reason = models.TextField(default="", db_default="", editable=False)
    throttled_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = '"registry_admin"."background_migration_controls"'

    def __str__(self) -> str:
        return f"controls of {self.background_migration_id}"


class Event(models.Model):
    """Something that happened to a background migration or to one of its jobs, and who did it."""

    created_at = models.DateTimeField(db_default=Now())
    background_migration_id = models.BigIntegerField()
    name = models.TextField()
    job_id = models.BigIntegerField(null=True)
    kind = models.TextField()
    actor = models.TextField()
    old_status = models.SmallIntegerField(choices=STATUSES, null=True)
    new_status = models.SmallIntegerField(choices=STATUSES, null=True)
    reason = models.TextField(default="", db_default="")
    error_class = models.TextField(default="", db_default="")
    sqlstate = models.TextField(default="", db_default="")
    correlation_id = models.TextField(default="", db_default="")

    class Meta:
        db_table = '"registry_admin"."background_migration_events"'
        indexes = (models.Index(fields=["background_migration_id", "id"], name="background_migration_events_of"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}"


class JobProgress(models.Model):
    """How far a piece of a job is, and who works on it. A job is one piece until a time-out splits it.

    `claim` is set while a worker has it. A piece is finished, claimed, waiting for `retry_at`, or set aside after its
    last attempt.
    """

    job_id = models.BigIntegerField()
    background_migration_id = models.BigIntegerField()
    min_value = models.BigIntegerField()
    max_value = models.BigIntegerField()
    next_value = models.BigIntegerField()
    size = models.PositiveIntegerField()  # rows when it was cut, for progress and for the next batch's size
    sub_batch_size = models.PositiveIntegerField()  # rows in one transaction; 0: all of it
    attempts = models.PositiveSmallIntegerField(default=0)
    claim = models.UUIDField(null=True)
    worker = models.TextField(default="", db_default="")
    claimed_at = models.DateTimeField(null=True)
    claimed_value = models.BigIntegerField(null=True)  # next_value at that time: has this attempt moved?
    claimed_rows = models.BigIntegerField(default=0, db_default=0)  # rows at that time
    seen_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    set_aside = models.BooleanField(default=False, db_default=False)
    ended_at = models.DateTimeField(null=True)  # of the last attempt
    finished_at = models.DateTimeField(null=True)
    rows = models.BigIntegerField(default=0, db_default=0)  # touched, as the work function counts
    seconds = models.FloatField(default=0, db_default=0)  # of work, all attempts

    class Meta:
        db_table = '"registry_admin"."background_migration_job_progress"'
        indexes = (
            models.Index(fields=["job_id"], name="bbm_progress_of_job"),
            models.Index(
                fields=["background_migration_id"],
                name="bbm_progress_unfinished",
                condition=models.Q(finished_at__isnull=True),
            ),
            models.Index(fields=["background_migration_id", "ended_at"], name="bbm_progress_ended"),
            models.Index(fields=["ended_at"], name="bbm_progress_recent"),
        )

    def __str__(self) -> str:
        return f"piece {self.pk} of job {self.job_id}"
