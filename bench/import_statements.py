"""Imports a tree and prints how many statements went to the database, in how many batches; for `bench.import`."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import django
from django.utils.module_loading import import_string


def main() -> None:
    """Import the tree given, on one connection."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
    django.setup()
    connection = import_string("django.db.connections")["registry"]
    statements = 0

    def count(execute: Callable[..., Any], *details: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(*details)

    with connection.execute_wrapper(count):
        import_string("metadata_import.importer.import_registry")(
            import_string("metadata_import.storage.open_driver")("filesystem", root=sys.argv[1]),
            connection=connection,
            pending_migrations=lambda: 0,
            options=import_string("metadata_import.options.ImportOptions")(keeps_statistics=False),
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM registry_admin.import_batches")
        ((batches,),) = cursor.fetchall()
    print(json.dumps({"statements": statements, "batches": batches}))


if __name__ == "__main__":
    main()
