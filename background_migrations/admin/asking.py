"""What a request names, and pages of a list too long to be counted."""

from collections.abc import Iterable
from typing import Any

from django.core.paginator import Page
from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.paginator import InfinitePaginator

LONGEST_ID = 18  # digits, of what PostgreSQL takes for an id


def ids_of(texts: Iterable[str]) -> list[int]:
    """Return the numbers among these; what cannot be an id is nobody's."""
    return [int(text) for text in texts if text.isdecimal() and len(text) <= LONGEST_ID]


def way_back(request: HttpRequest, *, otherwise: str) -> str:
    """Return the page of this site that the user came from, or another one."""
    wanted = request.POST.get("next", "")
    return wanted if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else otherwise


class UncountedPaginator(InfinitePaginator):
    """Reads one row more than it shows, and so knows whether there is a next page."""

    template_name = "background_migrations/pagination.html"
    has_more = False

    def page(self, number: Any) -> Page:
        """Return a page, which is empty beyond the end."""
        number = self.validate_number(number)
        bottom = (number - 1) * self.per_page
        found = list(self.object_list[bottom : bottom + self.per_page + 1])
        self.has_more = len(found) > self.per_page
        page: Page = self._get_page(found[: self.per_page], number, self)
        return page
