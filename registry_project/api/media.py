"""What goes over the wire: JSON alone, read strictly and written as GitLab's registry writes it."""

import datetime
from typing import Any

import msgspec
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

LONGEST_BODY = 64 * 1024  # bytes


class JSONOnly(BaseContentNegotiation):
    """Takes every body for JSON and answers in JSON, whatever the client's headers say: as GitLab's registry does."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the one parser."""
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the one renderer."""
        return renderers[0], renderers[0].media_type


class StrictJSONParser(BaseParser):
    """Reads a body of bounded size."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return what the body says. Raises ParseError."""
        data = stream.read(LONGEST_BODY + 1)
        if len(data) > LONGEST_BODY:
            raise ParseError(f"The body is longer than {LONGEST_BODY} bytes.")
        try:
            return msgspec.json.decode(data.decode())
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ParseError(f"The body is not JSON: {error}") from error


class _Encoder(JSONEncoder):
    """Writes times as Go does: RFC 3339 in UTC, without the zeros at the end of a fraction."""

    def default(self, obj: Any) -> Any:
        """Return what can be written."""
        if isinstance(obj, datetime.datetime):
            text = obj.astimezone(datetime.UTC).replace(tzinfo=None).isoformat()
            return f"{text.rstrip('0') if '.' in text else text}Z"
        return super().default(obj)


class RegistryJSONRenderer(JSONRenderer):
    """Ends what is an error with a line break, as GitLab's registry does; writes ASCII, whatever a request said."""

    encoder_class = _Encoder
    ensure_ascii = True

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> Any:
        """Return the bytes of a body."""
        body = super().render(data, accepted_media_type, renderer_context)
        return body + b"\n" if isinstance(data, dict) and "errors" in data else body
