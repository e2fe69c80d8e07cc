"""A background migration as a line on a page: its report in words, and where it leads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from background_migrations import printing
from background_migrations.reports import MigrationReport
from background_migrations.status import Status

FULL = 100.0
MOVING_SECONDS, IDLE_SECONDS = 3, 15
# What needs an operator comes first, then what moves.
ORDER = (Status.FAILED, Status.RUNNING, Status.ACTIVE, Status.PAUSED, Status.FINISHED)


@dataclass(frozen=True)
class Row:
    """What a line needs."""

    report: MigrationReport

    @property
    def status(self) -> str:
        """The status by name."""
        return self.report.status.label

    @property
    def url(self) -> str:
        """The page of this migration."""
        return migration_url(self.report.id)

    @property
    def name(self) -> str:
        """Its name."""
        return self.report.name

    @property
    def number(self) -> float | None:
        """How far it is, in percent, if anybody knows."""
        return self.report.progress.percent

    @property
    def percent(self) -> str:
        """How far it is, in text."""
        return printing.percent(self.report) or "unknown"

    @property
    def width(self) -> str:
        """How long its bar is, as CSS reads it."""
        return f"{min(self.report.progress.percent or 0, FULL):.2f}%"

    @property
    def rate(self) -> str:
        """Rows per second, while it moves."""
        rate = printing.rate(self.report) if self.report.status is Status.RUNNING else ""
        return f"{rate} rows/s" if rate else ""

    @property
    def time_left(self) -> str:
        """How long it will still take, as far as anybody knows."""
        return printing.time_left(self.report)

    @property
    def jobs(self) -> str:
        """How many jobs ended, and how."""
        return f"{self.report.jobs_finished:,}, {self.report.jobs_failed:,}"

    @property
    def failure(self) -> str:
        """Why it failed, by name."""
        return printing.failure(self.report.failure_error_code)

    @property
    def bar(self) -> SafeString:
        """Its bar, with the text beside it."""
        return render_to_string("registry/bar.html", {"row": self})

    @property
    def badge(self) -> SafeString:
        """Its status as a badge."""
        return state_badge(self.status)


def migration_url(migration_id: int) -> str:
    """Return the address of the page of a migration."""
    return reverse("admin:background_migrations_backgroundmigration_change", args=[migration_id])


def state_badge(state: str) -> SafeString:
    """Return a state as a badge: an icon, its name, a colour."""
    return render_to_string("registry/badge.html", {"state": state})


def rows(reports: Iterable[MigrationReport]) -> list[Row]:
    """Return a line for each, what is most wanted first."""
    return [Row(each) for each in sorted(reports, key=lambda each: (ORDER.index(each.status), each.id))]


def pace(found: Sequence[MigrationReport]) -> int:
    """Return the seconds after which a page asks again: soon while something may move."""
    moving = any(report.status in (Status.ACTIVE, Status.RUNNING) for report in found)
    return MOVING_SECONDS if moving else IDLE_SECONDS
