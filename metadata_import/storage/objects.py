"""What S3, GCS and Azure have in common: a bucket whose names, cut at `/`, look like a tree. Requests go by obstore.

obstore tries throttled and cut requests again, with back-off; what it cannot mend is told in few words, of which none
is a secret.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, GenericError, PreconditionError

from metadata_import.errors import FileTooLargeError, OutsideRootError, PathNotFoundError, StorageError
from metadata_import.storage.base import DatedContent, Entry, FileInfo

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from obstore import ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    Store = AzureStore | GCSStore | S3Store

PAGE = 1_000  # names in one answer, as all three count
READ_ATTEMPTS = 5  # of a body that ends too early
# A directory of a million names takes two minutes; a storage that repeats a page for ever would take all memory.
LIST_SECONDS = 300.0
# Time for a burst of refusals to pass; credentials outlast it.
RETRY_SECONDS = 180
REQUEST_SECONDS = 60
RETRIES = 10
IMPOSSIBLE_TAG = "00000000000000000000000000000000"

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})")
_MD5 = re.compile(r"[0-9a-f]{32}")
_REDIRECT = "redirect"


class ObjectDriver:
    """A bucket below one prefix. It travels between processes as what it was made of."""

    name: str
    root: str
    is_remote = True

    def __init__(self, store: "Store", *, root: str, requests_per_second: float = 0.0) -> None:
        self.root = root
        self._store, self._rate = store, requests_per_second
        self._pace = _Pace(requests_per_second)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the lock."""
        return _rebuild, (type(self), self._store, self.root, self._rate)

    def stat(self, path: str) -> FileInfo:
        """Return what is at a path; a file is told by one request, a directory by two."""
        if path:
            with suppress(PathNotFoundError), self._asking(path):
                return FileInfo(path, obstore.head(self._store, path)["size"], is_directory=False)
        with self._asking(path):
            if any(page for page in obstore.list(self._store, path, chunk_size=1)) or not path:
                return FileInfo(path, 0, is_directory=True)
        raise PathNotFoundError(path)

    def read(self, path: str, *, limit: int) -> bytes:
        """Return an object's bytes; raises FileTooLargeError when there are more than the limit, before they come."""
        return self._read(path, limit)[0]

    def read_dated(self, path: str, *, limit: int) -> DatedContent:
        """Do as `read`, and tell when the object was written."""
        content, meta = self._read(path, limit)
        return DatedContent(content, meta["last_modified"])

    def _read(self, path: str, limit: int) -> "tuple[bytes, ObjectMeta]":
        if not path:
            raise PathNotFoundError(path, reason="a directory")
        attempt = 1
        while True:
            with self._asking(path):
                found = obstore.get(self._store, path)
                if found.meta["size"] > limit:
                    raise FileTooLargeError(path, limit=limit)
                try:
                    return bytes(found.bytes()), found.meta
                except GenericError:
                    if attempt == READ_ATTEMPTS:
                        raise
            attempt += 1

    def list(self, path: str) -> Iterator[Entry]:
        """Yield a directory's children, sorted by name; the pages are all fetched at the first step."""
        with self._asking(path):
            found = asyncio.run(self._list(path))
        entries = [Entry(_last(each), is_directory=True) for each in found["common_prefixes"]]
        entries += [Entry(_last(each["path"]), is_directory=False, size=each["size"]) for each in found["objects"]]
        if not entries and path:
            raise PathNotFoundError(path)
        yield from sorted(entries, key=attrgetter("name"))

    async def _list(self, path: str) -> "obstore.ListResult[Sequence[ObjectMeta]]":
        listing = obstore.list_with_delimiter_async(self._store, path)
        return await asyncio.wait_for(listing, LIST_SECONDS)

    def walk(self, path: str, *, on_error: Callable[[str, StorageError], None]) -> Iterator[FileInfo]:
        """Yield every object below a directory, page by page; a page that cannot be had ends the walk."""
        last = ""
        pages = obstore.list(self._store, path, chunk_size=PAGE)
        while page := self._next_page(path, pages):
            for each in page:
                if each["path"] <= last:
                    on_error(path, StorageError(path, reason="the listing goes back, and would never end"))
                    return
                last = each["path"]
                yield FileInfo(last, each["size"], is_directory=False, md5=_md5(each))
        if not last:
            raise PathNotFoundError(path)

    def _next_page(self, path: str, pages: "obstore.ListStream[Any]") -> "builtins.list[ObjectMeta]":
        with self._asking(path):
            return list(next(pages, ()))

    def put(self, path: str, content: bytes) -> None:
        """Write an object whole."""
        with self._asking(path):
            obstore.put(self._store, path, content, use_multipart=False)

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is no error."""
        with suppress(PathNotFoundError), self._asking(path):
            obstore.delete(self._store, path)

    def check_writable(self, path: str) -> None:
        """Raise StorageError unless put(path) would succeed: a write on a condition that cannot hold is tried.

        A storage that knows no conditions has written then; what was there is put back.
        """
        before = self._content_of(path)
        try:
            with self._asking(path):
                obstore.put(
                    self._store,
                    path,
                    before or b"",
                    mode={"e_tag": f'"{IMPOSSIBLE_TAG}"', "version": "1"},
                    use_multipart=False,
                )
        except _ConditionError:
            return
        if before is None:
            self.delete(path)

    def _content_of(self, path: str) -> bytes | None:
        try:
            return self.read(path, limit=1024 * 1024)
        except PathNotFoundError:
            return None

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        if ".." in path.split("/"):
            raise OutsideRootError(path)
        self._pace.wait()
        try:
            yield
        except PreconditionError:
            raise _ConditionError(path, reason="a condition does not hold") from None
        except (BaseError, OSError, ValueError) as error:
            raise _translate(path, error) from None


class _ConditionError(StorageError):
    """The storage would have written, if only the condition had held."""


class _Pace:
    """Lets so many requests a second begin, of all threads of this process."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Return when it is one's turn."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + self._gap
        time.sleep(begin - now)


def _rebuild(kind: type[ObjectDriver], store: "Store", root: str, rate: float) -> ObjectDriver:
    driver = kind.__new__(kind)
    ObjectDriver.__init__(driver, store, root=root, requests_per_second=rate)
    return driver


def retry_config(max_retries: int = RETRIES) -> "RetryConfig":
    """Return how often and how long a refused or cut request is tried again."""
    return {"max_retries": max_retries, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}


def client_options(*, secure: bool = True, verified: bool = True) -> "ClientConfig":
    """Return how a connection is made."""
    return {
        "allow_http": not secure,
        "allow_invalid_certificates": not verified,
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }


def prefix_of(directory: str) -> str | None:
    """Return a root directory as the beginning of object names."""
    return directory.strip("/") or None


def place(service: str, *parts: str | None) -> str:
    """Return where a storage is, for messages and for the journal."""
    return "/".join([service, *(part for part in parts if part)])


def as_json(credentials: dict[str, Any]) -> str:
    """Return a service account's key as its provider hands it out."""
    return json.dumps(credentials)


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _md5(meta: "ObjectMeta") -> str | None:
    """Return the MD5 of the content, if the tag can be one; where it is another number nothing will equal it."""
    tag = (meta["e_tag"] or "").strip('"')
    return tag if _MD5.fullmatch(tag) else None


def _translate(path: str, error: Exception) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, FileNotFoundError):
        return PathNotFoundError(path)
    if isinstance(error, TimeoutError):
        return StorageError(path, reason=f"the listing did not end within {LIST_SECONDS:.0f} seconds")
    return StorageError(path, reason=_reason(str(error)))


def _reason(text: str) -> str:
    """Return what the storage answered, in its own words as far as they are known to hold no address and no key."""
    status, code, message = (pattern.search(text) for pattern in (_STATUS, _CODE, _MESSAGE))
    said = [found[1].strip() for found in (code, message) if found]
    if status:
        return ": ".join([f"the storage answered {status[1]}", *said])
    if _REDIRECT in text:
        return "the storage redirects to elsewhere; check the region and the endpoint"
    if "sending request" in text or "timed out" in text:
        return "no answer from the storage; check its address and the network"
    return re.sub(r"\S*://\S*", "…", text.split("\n", 1)[0])[:200]
