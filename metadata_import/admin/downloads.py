"""What a run came to as files, written while they are sent: a million skips take no more memory than a few thousand."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.http import StreamingHttpResponse

from metadata_import.history import FoundSkip
from metadata_import.statistics import skip_as_json

Pages = Iterable[list[FoundSkip]]
# A spreadsheet takes a cell that begins with one of these for a formula, and an apostrophe for "this is text".
BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def report_file(name: str, report: Mapping[str, Any], by_reason: Iterable[tuple[str, Pages]]) -> StreamingHttpResponse:
    """Answer with a report as `database import --json` prints it."""
    return _file(name, "application/json", _report(report, by_reason))


def json_file(name: str, pages: Pages) -> StreamingHttpResponse:
    """Answer with a list of all skips, each with its reason."""
    return _file(name, "application/json", _json_list([each._asdict() for each in page] for page in pages))


def csv_file(name: str, pages: Pages) -> StreamingHttpResponse:
    """Answer with a line for each skip, below a line of headings."""
    return _file(name, "text/csv; charset=utf-8", _csv(pages))


def _file(name: str, content_type: str, chunks: Iterator[str]) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(chunks, content_type=content_type, headers=headers)


def _report(report: Mapping[str, Any], by_reason: Iterable[tuple[str, Pages]]) -> Iterator[str]:
    yield json.dumps(report).removesuffix("}") + ', "skips": {'
    between = ""
    for reason, pages in by_reason:
        yield f"{between}{json.dumps(reason)}: "
        yield from _json_list([skip_as_json(each.path, each.detail) for each in page] for page in pages)
        between = ", "
    yield "}}\n"


def _json_list(pages: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    between = "["
    for page in pages:
        yield between + ",\n".join(map(json.dumps, page))
        between = ",\n"
    yield "[]" if between == "[" else "]"


def _csv(pages: Pages) -> Iterator[str]:
    yield _lines([FoundSkip._fields])
    for page in pages:
        yield _lines(map(_plain, each) for each in page)


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(BEGIN_FORMULAS) else cell
