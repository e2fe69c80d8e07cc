"""What can keep `manage.py migrate` from a database; each message says what to do next."""


class MigrateError(Exception):
    """Base of these errors; `code` is stable, the message is for people."""

    code = "migrate"


class InsufficientPrivilegeError(MigrateError):
    """The role may not do what the control tables need."""

    code = "insufficient_privilege"

    def __init__(self, role: str, *, privilege: str) -> None:
        super().__init__(f"Role {role!r} may not use the control tables: grant it {privilege}.")
        self.role, self.privilege = role, privilege


class MigrateBusyError(MigrateError):
    """Another process migrated for as long as we were ready to wait."""

    code = "migrate_busy"

    def __init__(self, *, waited_seconds: float) -> None:
        super().__init__(
            f"Another migrate is at work there; gave up after {waited_seconds:.0f} s. "
            "Wait for it to end, then run again."
        )
        self.waited_seconds = waited_seconds
