"""What `deploy/` says, against the program: its commands, its variables, the files that an image holds."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import load_command_class

from tests.programs import require_programs

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MANIFESTS = [
    manifest
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]
# Read by Python itself, by a library, or by a shell.
OTHERS = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def pods():
    """Each manifest that runs something, with its pod."""
    return [(each, each["spec"]["template"]["spec"]) for each in MANIFESTS if each["kind"] in ("Deployment", "Job")]


def commands():
    """Every command line of manage.py in deploy/."""
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=\S+ manage\.py (.*)$", unit.read_text(), re.MULTILINE)
        yield shlex.split(line.replace("%i", "9188"))
    for _, pod in pods():
        for container in pod["containers"]:
            yield container["args"]
            probes = [container.get(name, {}) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
            yield from (probe["exec"]["command"][2:] for probe in probes if "exec" in probe)
    (line,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    yield yaml.safe_load(line)


def variables():
    """Every variable of the environment that deploy/ sets."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)
    yield from re.findall(r"\b([A-Z_]+)=", block)
    for unit in UNITS:
        yield from re.findall(r"^Environment=(\w+)=", unit.read_text(), re.MULTILINE)
    for each in MANIFESTS:
        if each["kind"] in ("ConfigMap", "Secret"):
            yield from (name for name in {**each.get("data", {}), **each.get("stringData", {})} if name.isupper())


@pytest.mark.parametrize("words", [*commands()], ids=shlex.join)
def test_every_command_is_one(words):
    parser = load_command_class("registry_project", words[0]).create_parser("manage.py", words[0])
    parser.parse_args(words[1:])


def test_every_variable_is_one():
    known = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (ROOT / "registry_project" / "settings.py").read_text()))
    assert set(variables()) - OTHERS <= known


def test_the_server_s_probes_are_paths_that_there_are():
    (server,) = [pod for each, pod in pods() if each["metadata"]["name"].endswith("server")]
    probes = [server["containers"][0][name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]


def test_pods_run_without_rights_that_they_do_not_need():
    for _, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_what_manifests_refer_to_is_there():
    names = {(each["kind"], each.get("metadata", {}).get("name")) for each in MANIFESTS}
    for each, pod in pods():
        for source in pod["containers"][0]["envFrom"]:
            (kind, reference) = source.popitem()
            assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]) in names
        if each["kind"] == "Deployment":
            assert each["spec"]["selector"]["matchLabels"] == each["spec"]["template"]["metadata"]["labels"]
    (kustomization,) = [each for each in MANIFESTS if each["kind"] == "Kustomization"]
    assert all((DEPLOY / "kubernetes" / name).exists() for name in kustomization["resources"])


def test_the_version_is_written_once_and_told_alike_elsewhere():
    (kustomization,) = [each for each in MANIFESTS if each["kind"] == "Kustomization"]
    assert kustomization["images"][0]["newTag"] == settings.VERSION
    assert f"## {settings.VERSION}" in (ROOT / "CHANGELOG.md").read_text()
    assert settings.VERSION not in (ROOT / "pyproject.toml").read_text()


def test_the_image_holds_what_its_commands_need(tmp_path):
    lines = re.findall(r"^COPY (?!--from|requirements)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(lines).split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for words in (["check"], ["serve", "--help"], ["background_migrate", "worker", "--help"], ["database", "--help"]):
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_systemd_takes_the_units(tmp_path):
    require_programs("systemd-analyze", packages=("systemd",))
    units = [tmp_path / unit.name.replace("@", "@9188") for unit in UNITS]
    for unit, copy in zip(UNITS, units, strict=True):
        # Nothing is installed where they say.
        copy.write_text(unit.read_text().replace("/opt/registry-metadata/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
