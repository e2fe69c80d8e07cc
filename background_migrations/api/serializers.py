"""The shapes in which background migrations and their jobs are written, with the names that GitLab's registry uses."""

from typing import Any

from rest_framework import serializers

from background_migrations.reports import JOB_STATES, MigrationReport
from background_migrations.status import Status

LARGEST_SHOWN = 99.9  # percent of what is not finished, however it is rounded


class _WithoutNulls(serializers.Serializer[Any]):
    """Leaves out what is not known."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {name: value for name, value in super().to_representation(instance).items() if value is not None}


class MigrationSerializer(_WithoutNulls):
    """A background migration: GitLab's fields, then the times, time left and hindrance that are ours."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.ChoiceField([status.label for status in Status], source="status.label")
    job_signature_name = serializers.CharField(help_text="The name of its work function.")
    target_table = serializers.CharField(source="table_name", help_text="With its schema.")
    target_column = serializers.CharField(source="column_name")
    batch_size = serializers.IntegerField()
    min_value = serializers.IntegerField()
    max_value = serializers.IntegerField()
    batching_strategy = serializers.SerializerMethodField(help_text="Empty for the keyset strategy.")
    total_tuple_count = serializers.IntegerField(required=False, help_text="An estimate; absent while unknown.")
    error_code = serializers.IntegerField(
        source="failure_error_code",
        required=False,
        help_text="0 unknown, 1 invalid table, 2 invalid column, 3 invalid job signature, 4 attempts exhausted, "
        "5 invalid batching strategy.",
    )
    finished_jobs = serializers.IntegerField(source="jobs_finished")
    progress = serializers.SerializerMethodField(help_text="Percent; absent while the total is unknown.")
    capped = serializers.SerializerMethodField(help_text="The estimate is used up, though it is not finished.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField(required=False)
    started_at = serializers.DateTimeField(required=False)
    finished_at = serializers.DateTimeField(required=False)
    eta_seconds = serializers.SerializerMethodField(help_text="Seconds left at the pace of the last jobs.")
    throttled_by = serializers.CharField(help_text="The signal that holds it up now; empty when nothing does.")
    throttled_reason = serializers.CharField()

    def get_batching_strategy(self, report: MigrationReport) -> str:
        """Return GitLab's name of it."""
        return report.batching_strategy or ""

    def get_progress(self, report: MigrationReport) -> float | None:
        """Return percent with one decimal."""
        percent = report.progress.percent
        if percent is None or report.status is Status.FINISHED:
            return percent
        return min(round(percent, 1), LARGEST_SHOWN)

    def get_capped(self, report: MigrationReport) -> bool | None:
        """Return nothing where there is no estimate."""
        return None if report.progress.percent is None else report.progress.capped

    def get_eta_seconds(self, report: MigrationReport) -> int | None:
        """Return whole seconds, while there is something left."""
        seconds = report.progress.seconds_left
        return None if seconds is None or report.status is Status.FINISHED else round(seconds)


class MigrationListSerializer(serializers.Serializer[Any]):
    """All background migrations, by id."""

    migrations = MigrationSerializer(many=True)


class OneMigrationSerializer(serializers.Serializer[Any]):
    """One background migration."""

    migration = MigrationSerializer()


class JobSerializer(_WithoutNulls):
    """A job; its bounds are inclusive."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(JOB_STATES, source="state")
    min_value = serializers.IntegerField()
    max_value = serializers.IntegerField()
    attempts = serializers.IntegerField()
    error_code = serializers.IntegerField(source="failure_error_code", required=False)
    pieces = serializers.IntegerField(help_text="More than one where a time-out split it.")
    rows = serializers.IntegerField(required=False, help_text="Touched so far; absent where GitLab's worker did it.")
    seconds = serializers.FloatField(required=False, help_text="Of work, all attempts.")
    next_value = serializers.IntegerField(required=False, help_text="Where it goes on.")
    retry_at = serializers.DateTimeField(required=False)
    worker = serializers.CharField(required=False, help_text="Who has it now.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(required=False)
    finished_at = serializers.DateTimeField(required=False)


class JobListSerializer(serializers.Serializer[Any]):
    """Some jobs of one background migration, by id."""

    jobs = JobSerializer(many=True)


class DoneSerializer(serializers.Serializer[Any]):
    """That something was done; the message is for people."""

    success = serializers.BooleanField()
    message = serializers.CharField()


class ControlsSerializer(serializers.Serializer[Any]):
    """How a background migration is run; null is the default."""

    batch_size = serializers.IntegerField(allow_null=True, required=False, min_value=1)
    sub_batch_size = serializers.IntegerField(allow_null=True, required=False, min_value=0)
    interval_seconds = serializers.FloatField(allow_null=True, required=False, min_value=0)
    max_parallel_jobs = serializers.IntegerField(allow_null=True, required=False, min_value=1, max_value=1_000)
    hold_until = serializers.DateTimeField(allow_null=True, required=False)
    job_timeout_seconds = serializers.FloatField(allow_null=True, required=False, min_value=0)
    adaptive = serializers.BooleanField(allow_null=True, required=False)
    target_seconds = serializers.FloatField(allow_null=True, required=False)
    min_batch_size = serializers.IntegerField(allow_null=True, required=False, min_value=1)
    max_batch_size = serializers.IntegerField(allow_null=True, required=False, min_value=1)
    shares_table = serializers.BooleanField(allow_null=True, required=False)


class AllControlsSerializer(serializers.Serializer[Any]):
    """All controls of a background migration, as they are now."""

    controls = ControlsSerializer()
