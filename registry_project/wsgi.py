"""The WSGI entry point; the server that loads it sets the environment (DATABASE_URL, SECRET_KEY, …)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
application = get_wsgi_application()
