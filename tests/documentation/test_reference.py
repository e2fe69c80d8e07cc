"""The generated pages of docs/reference say what the code says."""

import pytest

from tests.reference_pages.pages import FOLDER, PAGES, drawn


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name):
    assert (FOLDER / name).read_text() == drawn(name), "run `make reference` and look at what it changes"
