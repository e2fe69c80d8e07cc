"""Real registries for tests and for the demo's tree: OCI layouts of our own making, docker-registry, skopeo."""

import gzip
import hashlib
import http.client
import io
import json
import os
import random
import re
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.e2e.tokens import TokenAuth

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TINY_CONFIG = b"{}"
TINY_IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": f"sha256:{hashlib.sha256(TINY_CONFIG).hexdigest()}",
            "size": len(TINY_CONFIG),
        },
        "layers": [],
    }
).encode()
CREATED = "2026-01-01T00:00:00Z"
START_SECONDS = 20.0
PUSHERS = 8  # threads


@dataclass
class OciLayout:
    """A directory that skopeo reads images from, filled by the methods below. The same calls give the same bytes."""

    path: Path
    _references: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "blobs" / "sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def image(self, *, layers: Sequence[str], architecture: str = "amd64", name: str | None = None) -> dict[str, Any]:
        """Add an image; each layer is a text file made from its seed. Return the descriptor."""
        contents = [_layer(seed) for seed in layers]
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": CREATED,
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(plain) for plain, _packed in contents]},
            "history": [{"created": CREATED, "created_by": f"add {seed}"} for seed in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": self._add(_json(config), media_type=OCI_CONFIG),
            "layers": [self._add(packed, media_type=OCI_LAYER) for _plain, packed in contents],
        }
        return self._refer(self._add(_json(manifest), media_type=OCI_IMAGE), name=name)

    def index(self, *, images: dict[str, dict[str, Any]], name: str | None = None) -> dict[str, Any]:
        """Add an index of images or indexes by architecture. Return the descriptor."""
        manifests = [
            {**descriptor, "platform": {"architecture": architecture, "os": "linux"}}
            for architecture, descriptor in images.items()
        ]
        content = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
        return self._refer(self._add(content, media_type=OCI_INDEX), name=name)

    def _add(self, content: bytes, *, media_type: str) -> dict[str, Any]:
        digest = _digest(content)
        (self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _refer(self, descriptor: dict[str, Any], *, name: str | None) -> dict[str, Any]:
        if name is not None:
            annotations = {"org.opencontainers.image.ref.name": name}
            self._references.append({**descriptor, "annotations": annotations})
            (self.path / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": self._references}))
        return descriptor


class HasPath(Protocol):
    """An OCI layout, whoever wrote it."""

    @property
    def path(self) -> Path:
        """Where it is."""


@dataclass(frozen=True)
class UmociLayout:
    """An OCI layout that umoci writes: an image grows by a layer for each of its files."""

    path: Path

    def __post_init__(self) -> None:
        self._umoci("init", "--layout", str(self.path))

    def image(self, name: str, files: Sequence[str]) -> None:
        """Build an image."""
        image, bundle = f"{self.path}:{name}", self.path.with_name(f"{self.path.name}-{name}")
        self._umoci("new", "--image", image)
        self._umoci("unpack", "--rootless", "--image", image, str(bundle))
        for file in files:
            (bundle / "rootfs" / file).write_text(file)
            self._umoci("repack", "--refresh-bundle", "--image", image, str(bundle))

    def _umoci(self, command: str, *arguments: str) -> None:
        done = subprocess.run(["umoci", command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Registry:
    """A running docker-registry; its storage tree lies below `root`. With `auth` it asks for tokens."""

    root: Path
    port: int
    auth: TokenAuth | None = None

    @property
    def config(self) -> Path:
        """Return its configuration, as long as it runs."""
        return self.root.with_name(f"{self.root.name}.yml")

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def push(self, layout: HasPath, name: str, target: str, *, docker: bool = False, whole: bool = False) -> None:
        """Copy an image of a layout to `repository:tag`, as Docker schema 2 if asked; `whole` for an index."""
        options = [*(["--all"] if whole else []), *(["--format", "v2s2"] if docker else [])]
        destination = f"docker://127.0.0.1:{self.port}/{target}"
        options += self._token_option("--dest-registry-token", target)
        _skopeo("copy", *options, "--dest-tls-verify=false", f"oci:{layout.path}:{name}", destination)

    def tags(self, repository: str) -> set[str]:
        """Return what `skopeo list-tags` answers."""
        options = ["--tls-verify=false", *self._token_option("--registry-token", repository)]
        found = _skopeo("list-tags", *options, f"docker://127.0.0.1:{self.port}/{repository}")
        return set(json.loads(found)["Tags"])

    def raw(self, reference: str) -> bytes:
        """Return a manifest's bytes, by `repository:tag` or `repository@digest`."""
        options = ["--tls-verify=false", "--raw", *self._token_option("--registry-token", reference)]
        return _skopeo("inspect", *options, f"docker://127.0.0.1:{self.port}/{reference}")

    def inspect(self, reference: str) -> dict[str, Any]:
        """Return what `skopeo inspect` answers for an image."""
        options = ["--tls-verify=false", *self._token_option("--registry-token", reference)]
        answer = _skopeo("inspect", *options, f"docker://127.0.0.1:{self.port}/{reference}")
        return dict(json.loads(answer))

    def put_manifest(self, repository: str, reference: str, content: bytes, *, media_type: str) -> None:
        """Upload a manifest as it is, for kinds that skopeo does not make."""
        self._request("PUT", f"/v2/{repository}/manifests/{reference}", 201, content=content, media_type=media_type)

    def put_tags(self, repository: str, *tags: str) -> None:
        """Make a repository of one tiny image with these tags, many times faster than skopeo."""
        location = self._request("POST", f"/v2/{repository}/blobs/uploads/", 202)
        self._request("PUT", f"{location}&digest={_digest(TINY_CONFIG)}", 201, content=TINY_CONFIG)
        for tag in tags:
            self.put_manifest(repository, tag, TINY_IMAGE, media_type=OCI_IMAGE)

    def put_repositories(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Make many repositories of one tiny image at once: the tags of each, by its path."""
        with ThreadPoolExecutor(PUSHERS) as pool:
            for done in [pool.submit(self.put_tags, repository, *names) for repository, names in tags.items()]:
                done.result()

    def empty(self, repository: str) -> None:
        """Delete the tiny image of a repository and so all of its tags; the repository stays."""
        self._request("DELETE", f"/v2/{repository}/manifests/{_digest(TINY_IMAGE)}", 202)

    def _token_option(self, option: str, reference: str) -> list[str]:
        return [option, self.auth.token(re.split("[:@]", reference)[0])] if self.auth else []

    def _request(
        self,
        method: str,
        target: str,
        status: int,
        *,
        content: bytes = b"",
        media_type: str = "application/octet-stream",
    ) -> str:
        """Send a request to a path or URL that holds `/v2/<repository>/`; return the answer's location."""
        headers = {"Content-Type": media_type}
        repository = re.split("/(?:blobs|manifests)/", target.partition("/v2/")[2])[0]
        if self.auth:
            headers["Authorization"] = f"Bearer {self.auth.token(repository)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request(method, target.removeprefix(self.url), body=content, headers=headers)
            response = connection.getresponse()
            assert response.status == status, response.read()
            return response.getheader("Location", "")
        finally:
            connection.close()


@contextmanager
def running_registry(root: Path, *, token_auth: bool = False, storage: str = "") -> Iterator[Registry]:
    """Run docker-registry over a storage root, or another storage as its configuration names it, on a free port of
    this machine, until the block ends.
    """
    root.mkdir(parents=True, exist_ok=True)
    port, auth = free_port(), TokenAuth() if token_auth else None
    config, bundle = root.with_name(f"{root.name}.yml"), root.with_name(f"{root.name}.crt")
    if auth:
        bundle.write_bytes(auth.certificate())
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{{storage or f'filesystem: {{rootdirectory: {root}}}'}, delete: {{enabled: true}}, "
        "redirect: {disable: true}, maintenance: {uploadpurging: {enabled: false}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n" + (f"auth: {{token: {_auth_settings(auth, bundle)}}}\n" if auth else "")
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"},  # at which its S3 fails
    )
    try:
        _wait_until_open(port, process)
        yield Registry(root, port, auth)
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        config.unlink()
        bundle.unlink(missing_ok=True)


def push_sample(registry: Registry, scratch: Path) -> None:
    """Push the sample: nested names, shared layers, several tags on one manifest, indexes and Docker kinds."""
    layout = OciLayout(scratch)
    base = ["base system", "runtime"]
    arm = layout.image(layers=["base system arm64", "runtime arm64", "app 2"], architecture="arm64")
    amd = layout.image(layers=[*base, "app 2"])
    layout.image(layers=[*base, "app 1"], name="app-1")
    layout.index(images={"amd64": amd, "arm64": arm}, name="app-2")
    layout.image(layers=["base system"], name="base")
    layout.image(layers=[*base, "worker", "worker"], name="worker")

    registry.push(layout, "base", "base:1.0")
    registry.push(layout, "base", "base:latest")
    registry.push(layout, "app-1", "group/app:1.0")
    registry.push(layout, "app-1", "group/app:stable")
    registry.push(layout, "app-2", "group/app:2.0", whole=True)
    registry.push(layout, "app-2", "group/app:latest", whole=True)
    registry.push(layout, "worker", "group/app/worker:1.0")
    registry.push(layout, "app-1", "group/sub/project:docker", docker=True)
    registry.push(layout, "app-2", "group/sub/project:docker-list", docker=True, whole=True)
    registry.push(layout, "app-1", "other/tools:v1")
    inner = registry.raw("group/app:2.0")
    descriptor = {"mediaType": OCI_INDEX, "digest": _digest(inner), "size": len(inner)}
    nested = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]})
    registry.put_manifest("group/app", "nested", nested, media_type=OCI_INDEX)


def _auth_settings(auth: TokenAuth, bundle: Path) -> str:
    settings = {"realm": auth.realm, "service": auth.service, "issuer": auth.issuer, "rootcertbundle": str(bundle)}
    return json.dumps(settings)  # which is YAML too


def _skopeo(command: str, *arguments: str) -> bytes:
    result = subprocess.run(["skopeo", "--insecure-policy", command, *arguments], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout


def _layer(seed: str) -> tuple[bytes, bytes]:
    """Return a layer of one generated text file: plain and packed, the same for the same seed."""
    words = random.Random(seed).choices(["blob", "layer", "manifest", "registry", "tag"], k=200)
    text = f"{seed}\n{' '.join(words)}\n".encode()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(f"srv/{seed.replace(' ', '-')}.txt")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return plain.getvalue(), gzip.compress(plain.getvalue(), mtime=0)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "docker-registry ended as it started"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"docker-registry did not open port {port} within {START_SECONDS:.0f} s")
