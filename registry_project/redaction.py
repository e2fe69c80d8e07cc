"""Takes secrets out of texts that leave the process: log lines and what is reported to Sentry."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

REDACTED = "[redacted]"
SHORTEST = 8  # characters; what is shorter would be found in half of all words

WORDS = ("password", "passwd", "secret", "authorization", "cookie", "token", "sessionid")
NAMES = r"\b((?:[\w-]*(?:password|passwd|secret|authorization|cookie)|(?:\w+[_-])?token|sessionid|secret_?key)"
# What gives itself away by its form: a JSON Web Token, a private key, the password in a URL, and whatever stands beside
# the word password or token. Quotes may be escaped, and so may line breaks. Each form has words without which it is not
# looked for: most lines have none, and looking for all forms takes as long as writing the line.
FORMS = (
    (("eyj",), re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(\.[\w-]*)?"), REDACTED),
    (
        ("private key-",),
        re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(-----END \1-----|$)", re.DOTALL),
        REDACTED,
    ),
    (("://",), re.compile(r"(://[^\s/@:\"']*:)[^\s/@\"']+@"), rf"\1{REDACTED}@"),
    (
        WORDS,
        re.compile(NAMES + r"(?:\\?[\"'])?\s*[:=]\s*(\\?[\"']))(?!\2).+?\2", re.IGNORECASE),
        rf"\1{REDACTED}\2",
    ),
    (WORDS, re.compile(NAMES + r"\s*[:=]\s*(?:bearer |basic )?)[^\s\"'\\&,;}]+", re.IGNORECASE), rf"\1{REDACTED}"),
    (("bearer ", "basic "), re.compile(r"\b(bearer|basic) [\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {REDACTED}"),
)


class Redaction:
    """Knows the secrets that this process was configured with, in every spelling in which they may be written."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= SHORTEST}
        spelt = {
            spelling for secret in known for spelling in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""))
        }
        longest_first = sorted(spelt, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if spelt else None

    def __call__(self, text: str) -> str:
        """Return the text without them."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        lower = text.lower()
        for words, pattern, replacement in FORMS:
            if any(word in lower for word in words):
                text = pattern.sub(replacement, text)
        return text


def _spellings(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written: as it is, within JSON, within a URL."""
    return secret, json.dumps(secret)[1:-1], quote(secret, safe="")
