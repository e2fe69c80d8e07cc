"""`database import` as a program that commits after every repository, so that a kill has many moments to strike.

Several processes share even a small tree; they run this file too, and so take the same small batches.
"""

import os
import sys
from importlib import import_module

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
django.setup()

# Not where a test imports this module to learn where it lies.
if __name__ in {"__main__", "__mp_main__"}:
    import_module("metadata_import.worker").BATCH_WEIGHT_BYTES = 1

if __name__ == "__main__":
    import_module("metadata_import.importer").ITEMS_PER_PROCESS = 2
    import_module("django.core.management").call_command("database", "import", *sys.argv[1:])
