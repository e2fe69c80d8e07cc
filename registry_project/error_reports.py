"""Reports to Sentry what is logged as an error and what nobody caught; started where a DSN is set."""

import json
from typing import TYPE_CHECKING, Any

import sentry_sdk
from django.conf import settings
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from registry_project.logs import correlation_id
from registry_project.redaction import Redaction

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

TAGS = ("component", "bbm_name", "bbm_id", "job_id", "dry_run", "repository")


def start() -> None:
    """Begin to report. No values of variables, no bodies and no addresses travel along."""
    redact = Redaction(settings.SECRETS)

    def prepare(event: "Event", hint: "Hint") -> "Event | None":
        record = hint.get("log_record")
        if record is not None and isinstance(record.msg, dict):
            _tell(event, record.msg)
        if "request" in event:  # without query, headers and whatever else may hold a secret
            event["request"] = {name: event["request"].get(name) for name in ("method", "url")}
        event.setdefault("tags", {}).setdefault("correlation_id", correlation_id() or "none")
        cleaned: Event = json.loads(redact(json.dumps(event, default=str)))
        return cleaned

    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        environment=settings.SENTRY_ENVIRONMENT,
        release=f"registry-metadata-manager@{settings.VERSION}",
        before_send=prepare,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        integrations=[
            AtexitIntegration(callback=lambda _pending, _timeout: None),
            DjangoIntegration(middleware_spans=False, signals_spans=False),
            LoggingIntegration(level=None),
        ],
    )


def _tell(event: "Event", facts: dict[str, Any]) -> None:
    """Put the facts of a log event where Sentry groups and searches."""
    event["logentry"] = {"message": facts["event"]}
    event["extra"] = {name: value for name, value in facts.items() if name != "event"}
    event.setdefault("tags", {}).update({name: str(facts[name]) for name in TAGS if name in facts})
    if "bbm_name" in facts:
        event["fingerprint"] = [facts["event"], facts["bbm_name"]]
