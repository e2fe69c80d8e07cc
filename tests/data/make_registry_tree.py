"""Makes registry_tree.tar.gz, a small registry's storage tree, for tests and the demo.

Run it as `python -m tests.data.make_registry_tree`; it needs docker-registry and skopeo.
"""

import gzip
import io
import tarfile
import tempfile
from pathlib import Path

from tests.e2e.registry import push_sample, running_registry

ARCHIVE = Path(__file__).with_name("registry_tree.tar.gz")


def main() -> None:
    """Push the sample to a fresh registry and pack what it stored."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        with running_registry(root) as registry:
            push_sample(registry, Path(directory) / "layout")
        ARCHIVE.write_bytes(pack(root))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


def pack(root: Path) -> bytes:
    """Return a tree as tar.gz: names sorted, no owner, no times, so that the same tree gives the same bytes.

    Empty directories and unfinished uploads have random names and mean nothing; they stay out.
    """
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and "/_uploads/" not in name:
                member = tarfile.TarInfo(name)
                member.size, member.mode = path.stat().st_size, 0o644
                archive.addfile(member, io.BytesIO(path.read_bytes()))
    return packed.getvalue()


if __name__ == "__main__":
    main()
