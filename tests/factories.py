"""Builders of rows for tests. Those of background migrations build what a worker would have written."""

import datetime
import uuid

import factory
from django.contrib.auth import get_user_model
from django.utils import timezone

from background_migrations.models import BackgroundMigration, BackgroundMigrationJob, Control, Event, JobProgress
from background_migrations.status import FailureErrorCode, Status
from metadata_import.models import ImportItem, ImportLease, ImportRun, ImportSkip, ImportStatus


class UserFactory(factory.django.DjangoModelFactory):
    """A user who may log in to the admin and, without permissions, see nothing there."""

    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda number: f"user{number}")
    is_staff = True


class _RegistryFactory(factory.django.DjangoModelFactory):
    """Rows of the registry's database."""

    class Meta:
        abstract = True
        database = "registry"


class BackgroundMigrationFactory(_RegistryFactory):
    """An active migration over a table by its id, of which nothing is done."""

    class Meta:
        model = BackgroundMigration

    class Params:
        running = factory.Trait(
            status=int(Status.RUNNING), started_at=factory.LazyFunction(timezone.now), total_tuple_count=1_000
        )
        failed = factory.Trait(status=int(Status.FAILED), failure_error_code=int(FailureErrorCode.MAX_JOB_RETRY))

    name = factory.Sequence(lambda number: f"migration_{number}")
    created_at = factory.LazyFunction(timezone.now)
    status = int(Status.ACTIVE)
    min_value = 1
    max_value = 2**63 - 1
    batch_size = 100
    job_signature_name = "populateBlobsIDColumn"
    table_name = "public.blobs"
    column_name = "id"


class BackgroundMigrationJobFactory(_RegistryFactory):
    """A finished job of 100 rows behind the one before. Without a piece it is one that GitLab's worker made."""

    class Meta:
        model = BackgroundMigrationJob

    class Params:
        failed = factory.Trait(
            status=int(Status.FAILED), failure_error_code=int(FailureErrorCode.UNKNOWN), finished_at=None
        )

    background_migration = factory.SubFactory(BackgroundMigrationFactory)
    created_at = factory.LazyFunction(timezone.now)
    started_at = factory.SelfAttribute("created_at")
    finished_at = factory.SelfAttribute("created_at")
    min_value = factory.Sequence(lambda number: number * 100 + 1)
    max_value = factory.LazyAttribute(lambda job: job.min_value + 99)
    status = int(Status.FINISHED)
    attempts = 1


class JobProgressFactory(_RegistryFactory):
    """The one piece of a job, done in half a second."""

    class Meta:
        model = JobProgress

    class Params:
        job = factory.SubFactory(BackgroundMigrationJobFactory)
        claimed = factory.Trait(
            claim=factory.LazyFunction(uuid.uuid4),
            worker="host:1",
            claimed_at=factory.LazyFunction(timezone.now),
            seen_at=factory.LazyFunction(timezone.now),
            ended_at=None,
            finished_at=None,
        )
        waiting = factory.Trait(ended_at=factory.LazyFunction(timezone.now), finished_at=None, rows=0)

    job_id = factory.SelfAttribute("job.id")
    background_migration_id = factory.SelfAttribute("job.background_migration_id")
    min_value = factory.SelfAttribute("job.min_value")
    max_value = factory.SelfAttribute("job.max_value")
    next_value = factory.SelfAttribute("min_value")
    claimed_value = factory.SelfAttribute("min_value")
    size = 100
    sub_batch_size = 0
    attempts = 1
    ended_at = factory.LazyFunction(timezone.now)
    finished_at = factory.SelfAttribute("ended_at")
    rows = 100
    seconds = 0.5


class ControlFactory(_RegistryFactory):
    """Controls of a migration, all at their defaults."""

    class Meta:
        model = Control

    class Params:
        migration = factory.SubFactory(BackgroundMigrationFactory)

    background_migration_id = factory.SelfAttribute("migration.id")


class EventFactory(_RegistryFactory):
    """Somebody paused a migration."""

    class Meta:
        model = Event

    class Params:
        migration = factory.SubFactory(BackgroundMigrationFactory)

    background_migration_id = factory.SelfAttribute("migration.id")
    name = factory.SelfAttribute("migration.name")
    created_at = factory.LazyFunction(timezone.now)
    kind = "status"
    actor = "somebody"
    old_status = int(Status.ACTIVE)
    new_status = int(Status.PAUSED)
    reason = "paused by hand"


class ImportRunFactory(_RegistryFactory):
    """A whole import at work on its repositories; nobody is at it without a lease."""

    class Meta:
        model = ImportRun

    class Params:
        ended = factory.Trait(
            status=ImportStatus.FINISHED,
            ended_at=factory.LazyFunction(timezone.now),
            repositories_finished_at=factory.LazyFunction(timezone.now),
        )

    storage_driver = "filesystem"
    root = "/srv/registry"
    mode = "full"
    actor = "somebody@host, process 7"
    started_at = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=10))
    repositories_started_at = factory.SelfAttribute("started_at")


class ImportLeaseFactory(_RegistryFactory):
    """The lease of the one who is at it."""

    class Meta:
        model = ImportLease

    name = "import"
    token = factory.LazyFunction(uuid.uuid4)
    holder = "somebody@host, process 7"
    taken_at = factory.LazyFunction(lambda: timezone.now() - datetime.timedelta(minutes=10))
    seen_at = factory.LazyFunction(timezone.now)


class ImportItemFactory(_RegistryFactory):
    """A repository that is done."""

    class Meta:
        model = ImportItem

    kind = "repository"
    name = factory.Sequence(lambda number: f"group/project{number}")
    finished_at = factory.LazyFunction(timezone.now)
    tags = 3
    manifests = 2


class ImportSkipFactory(_RegistryFactory):
    """A tag without its link."""

    class Meta:
        model = ImportSkip

    kind = "repository"
    item = "group/project"
    reason = "tag_link_missing"
    path = factory.Sequence(lambda number: f"docker/registry/v2/repositories/group/project/{number:05}")
