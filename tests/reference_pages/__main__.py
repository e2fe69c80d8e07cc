"""`make reference`: writes the generated pages of docs/reference anew."""

import os
from importlib import import_module

import django


def main() -> None:
    """Write every page. The pages look at models, so Django comes first."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
    django.setup()
    import_module("tests.reference_pages.pages").write()


if __name__ == "__main__":
    main()
