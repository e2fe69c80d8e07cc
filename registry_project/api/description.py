"""What the OpenAPI document holds beyond what the views say of themselves: each route once, its access, its errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from registry_project.api.access import Requirement, alternatives
from registry_project.api.exceptions import ANSWERS, ANYTHING_ELSE, RETRY_SECONDS, Answer, TokenRefusedError, envelope

BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A token that GitLab Rails signs; its claim `access` must grant one of what the operation names.",
}
ERROR = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "detail": {}},
            },
        }
    },
}


def canonical_routes(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Keep of each route the one path that clients should use."""
    return [endpoint for endpoint in endpoints if getattr(endpoint[3].cls, "canonical_path", None) == endpoint[0]]


def add_access(result: dict[str, Any], *, generator: Any, **_: Any) -> dict[str, Any]:
    """Say of every operation what the token must grant, in the order in which the view names it.

    The generator is drf-spectacular's; its endpoints are not those that the types of DRF's generator promise.
    """
    for path, _, method, callback in generator.endpoints:
        required = alternatives(callback.cls, method)
        security = [{"token": [_scope(each)]} for each in required] or [{"token": []}]
        result["paths"][path][method.lower()]["security"] = security
    return result


def add_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give every operation the errors that it may answer, each with an example, and say how a token is sent."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = ERROR
    for name, schema in schemas.items():
        if name.startswith("Patched"):
            schema["additionalProperties"] = False  # a name that is misspelt is an error
    components["securitySchemes"] = {"token": BEARER}
    for operation in _operations(result):
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        for answer in _answers(operation):
            responses = operation["responses"]
            described = responses.setdefault(str(answer.status), _response(answer))
            described["content"]["application/json"]["examples"][answer.code] = {"value": _example(answer)}
    return result


def _operations(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in result["paths"].values():
        yield from path.values()


def _answers(operation: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield what may go wrong with an operation, as far as it shows in its parameters and body."""
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    name = operation["operationId"]
    for kind, answer in ANSWERS.items():
        needs = {
            "BBM_ID_INVALID": "path" in places,
            "BBM_ID_NOT_FOUND": "path" in places,
            "BBM_INVALID_TRANSITION": "path" in places and name.startswith(("pause", "resume", "restart")),
            "INVALID_QUERY_PARAMETER_VALUE": "query" in places,
            "INVALID_QUERY_PARAMETER_TYPE": "query" in places,
            "BBM_CONFLICTING_CONTROLS": "requestBody" in operation,
            "INVALID_BODY_PARAMETER": "requestBody" in operation,
            "INVALID_BODY_PARAMETER_TYPE": "requestBody" in operation,
            "INVALID_JSON_BODY": "requestBody" in operation,
        }
        if kind is TokenRefusedError or needs.get(answer.code, True):
            yield answer
    yield ANYTHING_ELSE


def _scope(required: Requirement) -> str:
    scope = f"{required.type}:{required.name}:{required.action}"
    return f"{scope} with the meta {json.dumps(required.meta)}" if required.meta else scope


def _example(answer: Answer) -> dict[str, Any]:
    if answer.code == "UNAUTHORIZED":
        required = {"Type": "registry", "Class": "", "Name": "migrations", "ProjectPath": "", "Action": "*"}
        return envelope(answer.code, answer.message, detail=[required])
    return envelope(answer.code, answer.message, detail="what was wrong" if answer.tells else ...)


def _response(answer: Answer) -> dict[str, Any]:
    headers = {
        401: {"WWW-Authenticate": _header("Bearer realm, service, scope and error: what a token must grant.")},
        429: {"Retry-After": _header("Seconds until a failing token is answered again; a valid one always is.")},
        503: {"Retry-After": _header(f"Seconds to wait: {RETRY_SECONDS}.")},
    }.get(answer.status)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "examples": {}}}
    return {"description": answer.message, "content": content, **({"headers": headers} if headers else {})}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}
