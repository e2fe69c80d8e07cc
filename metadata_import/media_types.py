"""Media types and their ids: kept once known, created when the database has not seen one."""

from collections.abc import Iterable

import structlog
from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import.records import SkipReason

log = structlog.get_logger(__name__)

# The ids are smallint, and anybody who may push may invent types: the rest is kept for the registry itself.
CREATED_ID_LIMIT = 32_000

FIND_MEDIA_TYPES = "SELECT media_type, id FROM media_types WHERE media_type = ANY(%(names)s)"
INSERT_MEDIA_TYPES = """
    INSERT INTO media_types (media_type)
    SELECT n.name
    FROM unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, position)
    WHERE NOT EXISTS (SELECT FROM media_types t WHERE t.media_type = n.name)
    ORDER BY n.position
    LIMIT greatest(
        0, %(limit)s - coalesce(pg_sequence_last_value(pg_get_serial_sequence('media_types', 'id')::regclass), 0)
    )
    ON CONFLICT (media_type) DO NOTHING
"""


class MediaTypes:
    """The ids of media types in one database; new ones are created only if they are dynamic."""

    def __init__(self, connection: BaseDatabaseWrapper, *, dynamic: bool = True) -> None:
        self._connection, self._dynamic = connection, dynamic
        self._known: dict[str, int] = {}

    @property
    def missing_reason(self) -> SkipReason:
        """Return why a media type has no id."""
        return SkipReason.MEDIA_TYPES_EXHAUSTED if self._dynamic else SkipReason.MEDIA_TYPE_UNKNOWN

    def resolve(self, names: Iterable[str]) -> dict[str, int]:
        """Return the id of each of these types, created where missing; those that no id was left for are absent.

        What was created is remembered only once its transaction has committed.
        """
        wanted = dict.fromkeys(names)
        missing = [name for name in wanted if name not in self._known]
        found = {name: self._known[name] for name in wanted if name in self._known}
        if missing:
            created = self._find_or_create(missing)
            self._connection.on_commit(lambda: self._known.update(created))
            found |= created
        return found

    def _find_or_create(self, names: list[str]) -> dict[str, int]:
        with self._connection.cursor() as cursor:
            cursor.execute(FIND_MEDIA_TYPES, {"names": names})
            found: dict[str, int] = dict(cursor.fetchall())
            unknown = [name for name in names if name not in found]
            if unknown and self._dynamic:
                cursor.execute(INSERT_MEDIA_TYPES, {"names": sorted(unknown), "limit": CREATED_ID_LIMIT})
                cursor.execute(FIND_MEDIA_TYPES, {"names": unknown})
                found |= dict(cursor.fetchall())
        return found
