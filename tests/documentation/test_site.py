"""The documentation site builds without a warning, and needs no other host."""

import os
import re
import subprocess
import sys

from tests.documentation.fences import ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?://|https?:)|<link\b[^>]*\bhref=["']?(?://|https?:)"""
)
IMPORTED = re.compile(r"""url\(["']?(?://|https?:)|@import ["'](?://|https?:)""")


def test_the_site_builds_strictly_and_loads_nothing_from_other_hosts(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path: path.read_text() for path in tmp_path.rglob("*.html")}
    assert len(pages) > 20
    assert [path for path, text in pages.items() if LOADED.search(text)] == []
    assert [path for path in tmp_path.rglob("*.css") if IMPORTED.search(path.read_text())] == []
