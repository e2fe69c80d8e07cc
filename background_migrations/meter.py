"""What is counted and timed while jobs run. The engine tells; whoever starts it decides who listens."""

Job = tuple[str, str]  # the job signature and the id of its migration


class Meter:
    """Listens to nothing. Every method may be called by many threads, and must neither wait nor raise."""

    def turned(self, seconds: float) -> None:
        """A thread looked for work and did what it found."""

    def slept(self, seconds: float) -> None:
        """A thread waited for work."""

    def throttled(self, signal: str) -> None:
        """A signal said that now is no time to work."""

    def claimed(self, job: Job, *, size: int) -> None:
        """A job of so many rows was claimed."""

    def worked(self, job: Job, *, rows: int, seconds: float, work_seconds: float) -> None:
        """A sub-batch committed; the work function took `work_seconds` of its time."""

    def ended(self, job: Job, *, outcome: str, size: int, seconds: float) -> None:
        """A claim ended."""

    def failed(self, job: Job, *, kind: str) -> None:
        """An attempt failed: job_failed, job_split or job_set_aside."""
