"""How an import is to run: values that every process of it gets."""

import enum
from dataclasses import dataclass
from datetime import timedelta

from metadata_import.statistics import Mode

# A disk has few heads; a bucket takes whatever comes, and answers after tens of milliseconds.
LOCAL_READS_IN_FLIGHT = 8
REMOTE_READS_IN_FLIGHT = 128


def reads_in_flight(*, is_remote: bool, asked: int = 0) -> int:
    """Return how many reads of a storage to have in flight at most, where nobody asked for a certain number."""
    return asked or (REMOTE_READS_IN_FLIGHT if is_remote else LOCAL_READS_IN_FLIGHT)


class Resume(enum.Enum):
    """What becomes of an unfinished import of the same tree with the same steps."""

    IF_OPEN = "if open"  # it goes on, and without one a new one begins
    REQUIRED = "required"  # it goes on, and without one the run is refused
    RESTART = "restart"  # it is given up, and everything is read again


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import. A dry run writes everything in one transaction, journal included, and rolls it back."""

    mode: Mode = Mode.FULL
    dry_run: bool = False
    count_rows: bool = False
    strict: bool = False  # stop at the first item at which the registry's own import stops
    dynamic_media_types: bool = True  # create those that the database has not seen
    keeps_statistics: bool = True  # a row in import_statistics
    resume: Resume = Resume.IF_OPEN
    skip_recent: timedelta = timedelta(hours=72)  # a pre-import leaves alone what another finished since; 0: nothing
    concurrency: int = 1  # processes
    reads_in_flight: int = LOCAL_READS_IN_FLIGHT  # of each process
    holder: str = "unnamed"  # who runs this, for whoever wants to import at the same time
    grace_seconds: float = 30.0  # after that long a silence an import counts as dead
