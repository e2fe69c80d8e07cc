"""Makes registry_tree.zip, a small registry's storage tree, for tests and the demo.

Run it as `python -m tests.data.make_registry_tree`; it needs docker-registry and skopeo.
"""

import io
import tempfile
import zipfile
from pathlib import Path

from tests.e2e.registry import push_sample, running_registry

ARCHIVE = Path(__file__).with_name("registry_tree.zip")
UNIX = 3  # the system of a zip member that has a Unix mode


def main() -> None:
    """Push the sample to a fresh registry and pack what it stored."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        with running_registry(root) as registry:
            push_sample(registry, Path(directory) / "layout")
        ARCHIVE.write_bytes(pack(root))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


def pack(root: Path) -> bytes:
    """Return a tree as a zip: names sorted, no times, so that the same tree gives the same bytes.

    Empty directories and unfinished uploads have random names and mean nothing; they stay out.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and "/_uploads/" not in name:
                archive.writestr(_member(name), path.read_bytes())
    return packed.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # its time is the earliest that a zip can say
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system, member.external_attr = UNIX, 0o644 << 16
    return member


if __name__ == "__main__":
    main()
