"""The WSGI entry point; the server that loads it sets the environment (DATABASE_URL, SECRET_KEY, …)."""

import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
application = get_wsgi_application()

# What is wrong with the routes or with the certificates is an error now, not with the first request.
_ = get_resolver().url_patterns
import_module("registry_project.api.authentication").verifier()
