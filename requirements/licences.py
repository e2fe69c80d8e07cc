"""Lists the licences of what is installed at run time; with --check, holds the list in docs/reference/ against that."""

import re
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parent / "base.txt"
LIST = Path(__file__).parents[1] / "docs" / "reference" / "licences.md"
HEAD = """# Licences

The project itself is under the MIT licence (`LICENSE`). It runs with these packages, of which it changes none;
`make licences` writes the list.

"""
# Whoever passes the project on may pass these on beside it, under its own licence.
ALLOWED = re.compile(r"\b(MIT|BSD|Apache|PSF|LGPL|MPL|ISC|Unlicense|0BSD)\b")


def main() -> int:
    """Write the list, or return 1 when it is not what would be written. Neither with a licence that is not allowed."""
    names = re.findall(r"^([\w.-]+)==", PINNED.read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=markdown", "--no-version", "--packages"]
    table = subprocess.run([*command, *names], capture_output=True, text=True, check=True).stdout
    refused = [line for line in table.splitlines()[2:] if not ALLOWED.search(line)]
    if refused:
        sys.stdout.write("Licences that need a decision first:\n" + "\n".join(refused) + "\n")
        return 1
    if "--check" not in sys.argv:
        LIST.write_text(HEAD + table)
    elif not LIST.exists() or LIST.read_text() != HEAD + table:
        sys.stdout.write("docs/reference/licences.md is not up to date: make licences\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
