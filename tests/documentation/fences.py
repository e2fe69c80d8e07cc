"""The fenced blocks of the documentation, as a reader's eye finds them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# These start and fill the bundled PostgreSQL of a checkout.
OF_THE_DEMONSTRATION = re.compile(r"make demo|quickstart|embedded_postgres|registry_token(?!.* --key)")
COMMENT = re.compile(r"(^|\s+)#( .*)?$")
INFO = re.compile(r'(?P<language>\w+)(?: norun="(?P<reason>[^"]+)")?')


@dataclass(frozen=True)
class Fence:
    """One block; `norun` is the reason why no test can run it, empty where one does."""

    page: Path
    line: int
    language: str
    norun: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}, line {self.line}"

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("sh", "sql") and not self.norun

    @property
    def is_of_the_demonstration(self) -> bool:
        """Whether it is for a checkout without any configuration."""
        return self.language == "sh" and any(OF_THE_DEMONSTRATION.search(command) for command in self.commands)

    @property
    def commands(self) -> list[str]:
        """Its lines without comments, each with what it goes on with."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := COMMENT.sub("", line).strip())]


def name(page: Path) -> str:
    """Return how a page is called from the root."""
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> Iterator[Fence]:
    """Yield a page's blocks. Raises ValueError where one does not say what it holds."""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            if (info := INFO.fullmatch(token.info.strip())) is None:
                raise ValueError(f'{name(page)}, line {line}: begin the block with ```sh, ```sh norun="why" or ```text')
            yield Fence(page, line, info["language"], info["reason"] or "", token.content)
