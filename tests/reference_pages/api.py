"""The page of the REST API: its OpenAPI document, as tables."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from background_migrations.api.urls import ROUTES as BACKGROUND_MIGRATIONS
from metadata_import.api.urls import ROUTES as METADATA_IMPORT
from schema_migrations.api.urls import ROUTES as SCHEMA_MIGRATIONS
from tests.reference_pages.markdown import code, listed, section, sentence, table

ALIASES = {canonical: others for canonical, _, others in (*SCHEMA_MIGRATIONS, *BACKGROUND_MIGRATIONS, *METADATA_IMPORT)}
CONVERTER = re.compile(r"<\w+:(\w+)>")
KEYWORDS = {"minimum": " from", "maximum": " to", "default": "; default"}
LARGEST_INTEGER = 2**31 - 1  # what is not smaller is no bound that anybody would meet
INTRODUCTION = """\
# REST API

Drawn from the OpenAPI document, which a running site serves at `/gitlab/v1/openapi.json`. [Use the REST
API](../how-to/use-the-api.md) says how it is opened and how a token is made. Every path answers with and without its
last slash.
"""
OF_REFUSALS = """\
Every refusal is an object with {fields}: a list of objects with {entries}. [Error codes](error-codes.md#rest-api) has
all of them.
"""


def page() -> str:
    """Draw the page."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    routes = [
        [f"[`{method} {path}`](#{operation['operationId']})", _access(operation), operation["description"]]
        for method, path, operation in operations
    ]
    others = [
        [code(_path(canonical)), listed(map(_path, aliases))]
        for canonical, aliases in sorted(ALIASES.items())
        if aliases
    ]
    errors = document["components"]["schemas"].pop("Error")
    fields, entries = errors["properties"], errors["properties"]["errors"]["items"]["properties"]
    return "\n".join(
        [
            INTRODUCTION,
            table(["route", "the token grants", ""], routes),
            section(
                "Other paths", "These are answered like the routes on their left.", table(["route", "also"], others)
            ),
            *(_operation(*each) for each in operations),
            section("Refusals", OF_REFUSALS.format(fields=listed(fields), entries=listed(entries))),
            section("Values", "What bodies and answers hold."),
            *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
        ]
    )


def _access(operation: Mapping[str, Any]) -> str:
    scopes = [scope for each in operation["security"] for scope in each["token"]]
    return ", or ".join(map(code, scopes)) or "nothing: it must be valid"


def _path(route: str) -> str:
    return "/" + CONVERTER.sub(r"{\1}", route)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """Draw one route: what it takes, what it answers, and how it refuses."""
    parts = [f"## {method} {path} {{ #{operation['operationId']} }}\n", f"{operation['description']}\n"]
    if parameters := operation.get("parameters"):
        rows = [
            [code(each["name"]), each["in"], _type(each["schema"]), each.get("description", "")] for each in parameters
        ]
        parts.append(table(["parameter", "in", "value", ""], rows))
    facts = [["the token grants", _access(operation)]]
    if "requestBody" in operation:
        facts.append(["body", _type(_content(operation["requestBody"])["schema"])])
    for status, response in sorted(operation["responses"].items()):
        content = _content(response)
        examples = content.get("examples", {})
        facts.append([status, listed(examples) if examples else _type(content["schema"])])
    return "\n".join([*parts, table(["", ""], facts)])


def _content(described: Mapping[str, Any]) -> Mapping[str, Any]:
    content: Mapping[str, Any] = described["content"]["application/json"]
    return content


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        [code(field), _type(value), "always" if field in required else "", _said(value)]
        for field, value in schema.get("properties", {}).items()
    ]
    text = sentence(schema.get("description", ""))
    return f"### {name}\n\n{text}\n\n{table(['field', 'value', 'present', ''], rows)}"


def _said(value: Mapping[str, Any]) -> str:
    """Return the description of a field, without the list of its values that drf-spectacular puts there."""
    return "" if "enum" in value else value.get("description", "")


def _type(schema: Mapping[str, Any]) -> str:
    """Return in words what a value is."""
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            words = f"[{name}](#{name.lower()})"
        case {"allOf": [one]} | {"oneOf": [one]}:
            words = _type(one)
        case {"enum": values}:
            words = listed(values)
        case {"type": "array", "items": items}:
            words = f"list of {_type(items)}"
        case {"type": list(types)}:
            words = " or ".join([*(_type({**schema, "type": each}) for each in types if each != "null"), "null"])
        case {"type": "string", "format": form}:
            words = form
        case _:
            words = "".join([schema.get("type", "anything"), *_bounds(schema)])
    return words


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for keyword, words in KEYWORDS.items():
        if keyword in schema and schema[keyword] < LARGEST_INTEGER:
            yield f"{words} {schema[keyword]}"
