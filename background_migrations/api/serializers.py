"""The shapes in which background migrations and their jobs are written, with the names that GitLab's registry uses."""

import datetime
from typing import Any

from rest_framework import serializers

from background_migrations.reports import JOB_STATES, MigrationReport
from background_migrations.services import CONTROLS, bounds_of
from background_migrations.status import Status

LARGEST_SHOWN = 99.9  # percent of what is not finished, however it is rounded


class _WithoutNulls(serializers.Serializer[Any]):
    """Leaves out what is not known."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        values = self.correct(super().to_representation(instance), instance)
        return {name: value for name, value in values.items() if value is not None}

    def correct(self, values: dict[str, Any], _instance: Any) -> dict[str, Any]:
        """Return the values as they are shown."""
        return values


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
    batching_strategy = serializers.CharField(help_text="Empty for the keyset strategy.")
    total_tuple_count = serializers.IntegerField(required=False, help_text="An estimate; absent while unknown.")
    error_code = serializers.IntegerField(
        source="failure_error_code",
        required=False,
        help_text="0 unknown, 1 invalid table, 2 invalid column, 3 invalid job signature, 4 attempts exhausted, "
        "5 invalid batching strategy.",
    )
    finished_jobs = serializers.IntegerField(source="jobs_finished")
    progress = serializers.FloatField(
        source="progress.percent", required=False, help_text="Percent; absent while the total is unknown."
    )
    capped = serializers.BooleanField(
        source="progress.capped", required=False, help_text="The estimate is used up, though it is not finished."
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField(required=False)
    started_at = serializers.DateTimeField(required=False)
    finished_at = serializers.DateTimeField(required=False)
    eta_seconds = serializers.FloatField(
        source="progress.seconds_left", required=False, help_text="Seconds left at the pace of the last jobs."
    )
    throttled_by = serializers.CharField(help_text="The signal that holds it up now; empty when nothing does.")
    throttled_reason = serializers.CharField()

    def correct(self, values: dict[str, Any], report: MigrationReport) -> dict[str, Any]:
        """Round, hide what goes without saying, and show no full bar before the end."""
        percent, seconds = values["progress"], values["eta_seconds"]
        values["batching_strategy"] = report.batching_strategy or ""
        if report.status is Status.FINISHED:
            return {**values, "eta_seconds": None}
        if percent is None:
            return {**values, "capped": None}
        shown = min(round(percent, 1), LARGEST_SHOWN)
        return {**values, "progress": shown, "eta_seconds": seconds if seconds is None else round(seconds)}


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


def _control(kind: type, name: str) -> serializers.Field[Any, Any, Any, Any]:
    """Return the field of a control, with the bounds that it is checked for."""
    options: Any = {"allow_null": True, "required": False}
    if kind is bool:
        return serializers.BooleanField(**options)
    if kind is datetime.datetime:
        return serializers.DateTimeField(**options)
    smallest, largest = bounds_of(name)
    if kind is int:
        return serializers.IntegerField(min_value=int(smallest), max_value=int(largest), **options)
    return serializers.FloatField(min_value=smallest, max_value=largest, **options)


class ControlsSerializer(serializers.Serializer[Any]):
    """How a background migration is run; null is the default."""

    def get_fields(self) -> dict[str, Any]:
        """Return one field for each control."""
        return {name: _control(kind, name) for name, kind in CONTROLS.items()}


class AllControlsSerializer(serializers.Serializer[Any]):
    """All controls of a background migration, as they are now."""

    controls = ControlsSerializer()
