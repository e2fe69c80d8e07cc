"""One conformance suite that every storage driver passes, and what only the filesystem must do."""

import copy
import hashlib
import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metadata_import.errors import FileTooLargeError, OutsideRootError, PathNotFoundError, StorageError
from metadata_import.refusals import UnknownStorageDriverError
from metadata_import.storage import STORAGE_DRIVERS, open_driver
from metadata_import.storage.base import Entry, StorageDriver
from metadata_import.storage.filesystem import FilesystemDriver
from metadata_import.storage.objects import ObjectDriver
from tests.fakes import MemoryDriver
from tests.object_servers import SERVERS, Open

WRITTEN = datetime(2021, 5, 6, 7, 8, 9, tzinfo=UTC)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def object_servers() -> "Iterator[Callable[[str], StorageDriver]]":
    """Give what opens an empty storage by the name of its driver; each server is started once, when it is needed."""
    with ExitStack() as running:
        openers: dict[str, Open] = {}

        def open_empty(name: str) -> StorageDriver:
            if name not in openers:
                openers[name] = running.enter_context(SERVERS[name]())
            return openers[name]()

        yield open_empty


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.e2e if name == "azure" else ()) for name in [*STORAGE_DRIVERS, "memory"]
    ]
)
def driver(request, tmp_path, object_servers) -> StorageDriver:
    """An open driver over an empty root, of each kind in turn."""
    if request.param == "memory":
        return MemoryDriver()
    if request.param == "filesystem":
        return open_driver("filesystem", root=tmp_path)
    return object_servers(request.param)


def ignore(path: str, error: StorageError) -> None:
    raise AssertionError(f"{path}: {error}")


# --- Every driver -----------------------------------------------------------------------------------------------


def test_what_was_put_is_read_back(driver):
    driver.put("a/b/file", b"content")
    assert driver.read("a/b/file", limit=7) == b"content"
    assert driver.stat("a/b/file").size == 7
    assert not driver.stat("a/b/file").is_directory


def test_what_is_read_is_dated_where_the_storage_says(driver, tmp_path):
    driver.put("file", b"content")
    found = driver.read_dated("file", limit=7)
    assert found.content == b"content"
    if isinstance(driver, ObjectDriver):
        assert abs(found.written_at - datetime.now(UTC)) < timedelta(hours=1)
        return
    if isinstance(driver, FilesystemDriver):
        os.utime(tmp_path / "file", (WRITTEN.timestamp(),) * 2)
    else:
        driver.written_at = WRITTEN
    assert driver.read_dated("file", limit=7).written_at == WRITTEN


def test_put_replaces(driver):
    driver.put("file", b"long content")
    driver.put("file", b"short")
    assert driver.read("file", limit=100) == b"short"


def test_an_empty_file_is_a_file(driver):
    driver.put("a/empty", b"")
    assert driver.read("a/empty", limit=10) == b""
    assert driver.stat("a/empty").size == 0


def test_a_file_over_the_limit_is_not_read(driver):
    driver.put("file", b"12345")
    assert driver.read("file", limit=5) == b"12345"
    with pytest.raises(FileTooLargeError):
        driver.read("file", limit=4)


@pytest.mark.parametrize("path", ["missing", "a/missing", "a/file/below", "a"])
def test_reading_where_no_file_is_raises_path_not_found(driver, path):
    driver.put("a/file", b"")
    with pytest.raises(PathNotFoundError):
        driver.read(path, limit=10)


@pytest.mark.parametrize("path", ["missing", "a/file", "a/file/below"])
def test_listing_where_no_directory_is_raises_path_not_found(driver, path):
    driver.put("a/file", b"")
    with pytest.raises(PathNotFoundError):
        list(driver.list(path))
    with pytest.raises(PathNotFoundError):
        list(driver.walk(path, on_error=ignore))


def test_a_list_holds_the_children_sorted(driver):
    for path in ("d/b/file", "d/a", "d/C/x/y", "e"):
        driver.put(path, b"")
    assert list(driver.list("d")) == [Entry("C", True), Entry("a", False, size=0), Entry("b", True)]
    assert list(driver.list("")) == [Entry("d", True), Entry("e", False, size=0)]


def test_an_empty_root_can_be_listed(driver):
    assert list(driver.list("")) == []


def test_a_list_tells_the_sizes_of_files(driver):
    for name in ("a", "bb", "ccc"):
        driver.put(f"d/{name}", name.encode())
    assert [(entry.name, entry.size) for entry in driver.list("d")] == [("a", 1), ("bb", 2), ("ccc", 3)]


def test_a_long_list_is_complete_and_sorted(driver):
    names = [f"{number:04}" for number in range(2500 if isinstance(driver, FilesystemDriver) else 1200)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda name: driver.put(f"d/{name}/link", b""), reversed(names)))) == len(names)
    assert [entry.name for entry in driver.list("d")] == names


def test_many_threads_may_read_at_once(driver):
    paths = [f"d/{number}" for number in range(50)]
    for path in paths:
        driver.put(path, path.encode())
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda path: driver.read(path, limit=10), paths)) == [path.encode() for path in paths]


@pytest.mark.parametrize("path", ["missing", "a/file/below"])
def test_nothing_has_no_status(driver, path):
    driver.put("a/file", b"")
    with pytest.raises(PathNotFoundError):
        driver.stat(path)


def test_a_directory_has_a_status(driver):
    driver.put("a/b/file", b"")
    assert driver.stat("a/b").is_directory


def test_what_a_listing_tells_of_a_content_is_true(driver):
    driver.put("d/file", b"content")
    (found,) = driver.walk("d", on_error=ignore)
    assert found.md5 in (None, hashlib.md5(b"content", usedforsecurity=False).hexdigest())


def test_a_driver_can_travel_to_another_process(driver):
    driver.put("file", b"content")
    travelled = copy.deepcopy(driver)  # by the same protocol as pickle
    assert (travelled.name, travelled.root) == (driver.name, driver.root)
    assert travelled.read("file", limit=10) == b"content"


def test_a_walk_yields_every_file_at_any_depth_with_its_size(driver):
    for path in ("d/b/file", "d/a", "d/c/x/y"):
        driver.put(path, path.encode())
    found = {file.path: file.size for file in driver.walk("d", on_error=ignore)}
    assert found == {"d/b/file": 8, "d/a": 3, "d/c/x/y": 7}


def test_delete_removes_a_file_and_forgives_one_that_is_not_there(driver):
    driver.put("a/file", b"")
    driver.put("a/other", b"")
    driver.delete("a/file")
    driver.delete("a/file")
    driver.delete("b/c/file")
    assert [entry.name for entry in driver.list("a")] == ["other"]


def test_checking_for_writability_leaves_nothing(driver):
    driver.put("a/file", b"")
    driver.check_writable("a/b/c/new")
    driver.check_writable("a/file")
    assert [entry.name for entry in driver.list("a")] == ["file"]
    assert driver.read("a/file", limit=1) == b""


@pytest.mark.parametrize("path", ["../outside", "a/../../outside"])
def test_no_path_climbs_out_of_the_root(driver, path):
    driver.put("a/file", b"")
    for call in (lambda: driver.read(path, limit=10), lambda: driver.stat(path), lambda: driver.put(path, b"")):
        with pytest.raises(StorageError):
            call()


def test_an_unknown_driver_is_refused_with_the_known_names():
    with pytest.raises(UnknownStorageDriverError, match="filesystem"):
        open_driver("floppy")


# --- The filesystem ---------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "data").write_bytes(b"secret")
    return root


@pytest.fixture
def filesystem(root: Path) -> FilesystemDriver:
    return FilesystemDriver(root)


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd"])
def test_a_link_to_a_file_outside_is_not_followed(root, filesystem, target):
    (root / "link").symlink_to(target)
    for call in (lambda: filesystem.read("link", limit=10_000), lambda: filesystem.stat("link")):
        with pytest.raises(OutsideRootError):
            call()


def test_nothing_below_a_linked_directory_outside_is_reached(root, filesystem):
    (root / "linked").symlink_to("../private")
    errors: list[str] = []
    for call in (
        lambda: filesystem.read("linked/data", limit=10),
        lambda: filesystem.stat("linked/data"),
        lambda: list(filesystem.list("linked")),
        lambda: filesystem.put("linked/new", b""),
        lambda: filesystem.put("linked/new/deeper", b""),
        lambda: filesystem.delete("linked/data"),
        lambda: filesystem.check_writable("linked/new"),
    ):
        with pytest.raises(OutsideRootError):
            call()
    assert list(filesystem.walk("", on_error=lambda path, _error: errors.append(path))) == []
    assert errors == ["linked"]
    assert [path.name for path in (root.parent / "private").iterdir()] == ["data"]


def test_a_sibling_whose_name_begins_like_the_root_is_outside(root, filesystem):
    (root.parent / "root2").mkdir()
    (root.parent / "root2" / "data").write_bytes(b"secret")
    (root / "link").symlink_to("../root2/data")
    with pytest.raises(OutsideRootError):
        filesystem.read("link", limit=10)


def test_a_link_that_stays_inside_is_followed_to_a_file(root, filesystem):
    filesystem.put("a/file", b"content")
    (root / "link").symlink_to("a/file")
    assert filesystem.read("link", limit=10) == b"content"


def test_linked_directories_are_not_walked_not_even_in_circles(root, filesystem):
    filesystem.put("a/file", b"")
    (root / "a" / "loop").symlink_to("..")
    (root / "a" / "self").symlink_to("self")
    errors: list[str] = []
    assert [file.path for file in filesystem.walk("a", on_error=lambda path, _: errors.append(path))] == ["a/file"]
    assert sorted(errors) == ["a/loop", "a/self"]
    links = {entry.name for entry in filesystem.list("a") if entry.is_symbolic_link and not entry.is_directory}
    assert links == {"loop", "self"}


def test_the_root_itself_may_be_reached_through_a_link(root, tmp_path):
    FilesystemDriver(root).put("file", b"content")
    (tmp_path / "alias").symlink_to("root")
    assert FilesystemDriver(tmp_path / "alias").read("file", limit=10) == b"content"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_what_is_neither_file_nor_directory_is_not_there_and_blocks_nobody(root, filesystem, make):
    make(root / "special")
    errors: list[str] = []
    for call in (lambda: filesystem.read("special", limit=10), lambda: filesystem.stat("special")):
        with pytest.raises(StorageError):
            call()
    assert list(filesystem.walk("", on_error=lambda path, _: errors.append(path))) == []
    assert errors == ["special"]
    (entry,) = filesystem.list("")
    assert (entry.is_directory, entry.size) == (False, None)


def test_a_device_outside_is_neither_read_nor_taken_for_an_empty_file(root, filesystem):
    (root / "device").symlink_to("/dev/zero")
    errors: list[str] = []
    with pytest.raises(OutsideRootError):
        filesystem.read("device", limit=10)
    assert list(filesystem.walk("", on_error=lambda path, _: errors.append(path))) == []
    assert errors == ["device"]


def test_files_without_permission_are_told_from_missing_ones():
    """Of the superuser nothing is withheld, so that a run as root reads as somebody else meanwhile."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        for name in ("file", "below/file"):
            FilesystemDriver(directory).put(name, b"secret")
        (Path(directory) / "file").chmod(0)
        (Path(directory) / "below").chmod(0)
        errors: list[str] = []
        with as_somebody_else():
            driver = FilesystemDriver(directory)
            for path in ("file", "below/file"):
                with pytest.raises(StorageError, match="Permission denied"):
                    driver.read(path, limit=10)
            assert [file.path for file in driver.walk("", on_error=lambda path, _: errors.append(path))] == ["file"]
        (Path(directory) / "below").chmod(0o700)
    assert errors == ["below"]


@contextmanager
def as_somebody_else() -> "Iterator[None]":
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_names_that_are_no_text_are_listed_and_read(root, filesystem):
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_bytes(b"odd")
    (entry,) = filesystem.list("")
    assert filesystem.read(entry.name, limit=10) == b"odd"


@pytest.mark.parametrize("path", ["x" * 300, "/".join(["x" * 200] * 30), "a\0b", "\ud800"])
def test_impossible_paths_raise_the_apps_error(filesystem, path):
    with pytest.raises(StorageError):
        filesystem.read(path, limit=10)


def test_a_sparse_file_of_a_terabyte_is_not_read(root, filesystem):
    with (root / "huge").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileTooLargeError):
        filesystem.read("huge", limit=4 * 1024 * 1024)
