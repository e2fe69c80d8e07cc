"""Middleware that only a server loads. Django's checks import what is in the list, and commands should be quick.

Metrics have a second reason: what the library shares among processes is decided when it is loaded.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def operations(get_response: GetResponse) -> Any:
    """Answer /healthz, /readyz and /metrics."""
    return import_module("registry_project.operations").Operations(get_response)


def measure(get_response: GetResponse) -> Any:
    """Count and time requests."""
    return import_module("registry_project.http_metrics").Measure(get_response)
