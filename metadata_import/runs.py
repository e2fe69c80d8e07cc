"""The rows of runs: which one goes on, which one begins, whether it may, and how it ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet, Sum

from metadata_import import lockfiles
from metadata_import.models import ImportItem, ImportRun, ImportStatus
from metadata_import.options import ImportOptions, Resume
from metadata_import.records import FAULTS, SkipReason
from metadata_import.refusals import AlreadyImportedError, NothingToResumeError
from metadata_import.statistics import ImportKind, ImportReport, Step, facts
from metadata_import.storage.base import StorageDriver
from metadata_import.store import Store

OPEN = (ImportStatus.RUNNING, ImportStatus.INTERRUPTED, ImportStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that may begin or go on, and for which reasons what was left out before is tried again."""

    run: ImportRun
    retried: Iterable[SkipReason] = ()


def open_run(
    driver: StorageDriver, *, connection: BaseDatabaseWrapper, options: ImportOptions, now: datetime
) -> Opened:
    """Return the open run of this tree with these steps, or else a new one.

    Raises RefusedError, before anything is written, where a new one would go over what somebody else imported.
    """
    of_tree = ImportRun.objects.using(connection.alias).filter(storage_driver=driver.name, root=driver.root)
    found = _find_open(of_tree.filter(mode=options.mode), connection, options)
    if found is None and options.resume is Resume.REQUIRED:
        raise NothingToResumeError(driver.root, mode=options.mode)
    if options.mode.writes_tags:
        if found is None:
            _refuse_imported(driver, connection, of_tree)
        if not options.dry_run:
            lockfiles.refuse_read_only(driver)
    if found is not None and options.resume is not Resume.RESTART:
        return _go_on(found, connection, options)
    with transaction.atomic(using=connection.alias):
        if found is not None and options.mode.writes_tags:
            Store(connection).delete_tags(run_id=found.pk)
        of_tree.filter(mode=options.mode, status__in=OPEN).update(status=ImportStatus.ABANDONED, ended_at=now)
        run = ImportRun(
            storage_driver=driver.name, root=driver.root, mode=options.mode, actor=options.holder, started_at=now
        )
        run.save(using=connection.alias)
    return Opened(run)


def start_pass(run: ImportRun, kind: ImportKind, *, now: datetime) -> None:
    """Note that a kind of items is gone through from now on."""
    if kind is ImportKind.REPOSITORY:
        run.repositories_started_at, run.repositories_finished_at = run.repositories_started_at or now, None
    else:
        run.blobs_started_at, run.blobs_finished_at = run.blobs_started_at or now, None
    run.save()


def finish_pass(run: ImportRun, kind: ImportKind, *, now: datetime) -> None:
    """Note that a kind of items is done."""
    if kind is ImportKind.REPOSITORY:
        run.repositories_finished_at = now
    else:
        run.blobs_finished_at = now
    run.save()


def times_of(run: ImportRun, step: Step) -> tuple[datetime | None, datetime | None]:
    """Return when a step began and ended: the first two are done together."""
    if step is Step.BLOB_IMPORT:
        return run.blobs_started_at, run.blobs_finished_at
    return run.repositories_started_at, run.repositories_finished_at


def end(run: ImportRun, status: ImportStatus, *, now: datetime, error: str = "") -> None:
    """Note how an attempt ended."""
    run.status, run.ended_at, run.error = status, now, error
    run.save()


def keep_report(run: ImportRun, report: ImportReport) -> None:
    """Note what an attempt came to."""
    run.report = facts(report)
    run.save(update_fields=["report"])


def _find_open(runs: QuerySet[ImportRun], connection: BaseDatabaseWrapper, options: ImportOptions) -> ImportRun | None:
    """Return the open run, unless its tags are gone: then somebody emptied the tables, and the journal tells tales."""
    run = runs.filter(status__in=OPEN).order_by("-id").first()
    if run is None or not options.mode.writes_tags:
        return run
    items = ImportItem.objects.using(connection.alias).filter(run_id=run.pk, finished_at__isnull=False)
    has_tags = bool(items.aggregate(tags=Sum("tags"))["tags"])
    return None if has_tags and Store(connection).is_tags_table_empty() else run


def _refuse_imported(driver: StorageDriver, connection: BaseDatabaseWrapper, of_tree: QuerySet[ImportRun]) -> None:
    if not Store(connection).is_tags_table_empty():
        other = of_tree.filter(status__in=OPEN, mode__in=("full", "step two")).order_by("-id").first()
        raise AlreadyImportedError(open_mode=other.mode if other else "")
    lockfiles.refuse_database_lock(driver)


def _go_on(run: ImportRun, connection: BaseDatabaseWrapper, options: ImportOptions) -> Opened:
    run.attempts += 1
    run.status, run.ended_at, run.error, run.actor = ImportStatus.RUNNING, None, "", options.holder
    run.report = None
    run.save(using=connection.alias)
    items = ImportItem.objects.using(connection.alias).filter(run_id=run.pk)
    has_tags = bool(items.aggregate(tags=Sum("tags"))["tags"])
    # Where not one tag came through, whatever was wrong was wrong with everything.
    return Opened(run, FAULTS if has_tags else tuple(SkipReason))
