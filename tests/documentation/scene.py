"""Where a page's commands are run: a database, a storage tree, a site and a copy of the checkout."""

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

from django.core.management import execute_from_command_line

from registry_project.management.commands.quickstart import unpack_tree
from tests.conftest import Database, migrate
from tests.documentation.fences import Fence
from tests.documentation.shell import LONGEST_SECONDS, STOPPED, Shell, sign_of
from tests.e2e.registry import free_port
from tests.e2e.site import HOST, Site, served
from tests.e2e.tokens import TokenAuth
from tests.waiting import until

# A command of ours that needs no shell; most run in this process, which saves the second that Django takes to start.
ALONE = re.compile(r"python manage\.py [^|&;<>$`(){}]*")
IN_A_PROCESS_OF_ITS_OWN = re.compile(r"manage\.py (registry_token|database migrate new)|--config ")

ROWS = """
    CREATE SCHEMA far;
    CREATE TABLE far.copies (id bigint PRIMARY KEY, media_type_id int, media_type_id_convert_to_bigint bigint);
    INSERT INTO far.copies SELECT n, n FROM generate_series(1, 30) AS n;
    DELETE FROM batched_background_migrations;
    INSERT INTO batched_background_migrations
        (id, name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name)
    OVERRIDING SYSTEM VALUE
    SELECT id, name, 1, 30, 10, 1, 'copyManifestMediaTypeIDToNewBigIntColumn', 'far.copies', 'id'
    FROM unnest(ARRAY['NAME', 'copy_manifests', 'backfill_tags_size']) WITH ORDINALITY AS named (name, id);
    INSERT INTO container_repositories (id, project_id, name, status) VALUES (1, 1, 'image', 0);
"""
STATUS = "UPDATE batched_background_migrations SET status = {number} WHERE name = %(name)s"
FAILED_JOB = """
    INSERT INTO batched_background_migration_jobs
        (batched_background_migration_id, min_value, max_value, status, failure_error_code, attempts)
    SELECT id, 1, 10, 3, 0, 5 FROM batched_background_migrations WHERE name = %(name)s
"""
# What verbs need to find, done to the background migration that they name.
NEEDED = {
    "pause": [STATUS.format(number=1)],
    "resume": [STATUS.format(number=0)],
    "restart": [STATUS.format(number=3)],
    "retry": [FAILED_JOB],
    "queue": ["DELETE FROM batched_background_migrations WHERE name = %(name)s"],
}
EMPTY_REGISTRY = """
    DELETE FROM manifest_references;
    DELETE FROM top_level_namespaces;
    DELETE FROM blobs;
    TRUNCATE registry_admin.import_runs, registry_admin.import_items, registry_admin.import_batches,
        registry_admin.import_skips, registry_admin.import_leases;
"""
SITE = "https://registry-admin.example.com"
SERVES_A_SITE = re.compile(r"python manage\.py serve\b")
# What a command ends with where that is not 0.
EXIT_CODES = {"python manage.py background_migrate worker --check": 1}  # no worker runs
VERB = re.compile(r"background_migrate (?P<verb>\w+) (?P<name>\w+)")
NEEDS_THE_SCHEMA = re.compile(r"database import|migrate status --up-to-date")
BEGINS_AN_IMPORT = re.compile(r"database import \S+(?!.*--(dry-run|verify|step-two|step-three))")


@dataclass
class Scene(Shell):
    """One page's world: a database with all tables; whoever makes it closes its stack."""

    database: Database
    stack: ExitStack

    def run(self, fence: Fence) -> None:
        """Run one block as it stands on its page. Raises AssertionError where it does not end well."""
        if fence.language == "sql":
            self._query(fence.text)
        elif all(ALONE.fullmatch(command) for command in fence.commands):
            for command in fence.commands:
                self._prepare(command)
                self._run_one(command)
        else:
            for command in fence.commands:
                assert not sign_of(command), f"{fence}: {command} serves for ever; give it a block of its own"
                self._prepare(command)
            self.run_script(fence.text)

        if "migrate new" in fence.text:
            del self.checkout  # what was written there would be pending for the next block

    def _run_one(self, command: str) -> None:
        if SERVES_A_SITE.match(command):
            self._serve_site(command)
        elif sign_of(command):
            self.serve(command)
        elif IN_A_PROCESS_OF_ITS_OWN.search(command):
            self.run_script(command)
        else:
            self._run_here(command)

    @cached_property
    def tree(self) -> Path:
        """A storage tree with a small registry."""
        unpack_tree(self.home / "registry")
        return self.home / "registry"

    @cached_property
    def configuration(self) -> Path:
        """A registry's own configuration, of that tree."""
        path = self.home / "config.yml"
        path.write_text(f"storage:\n  filesystem:\n    rootdirectory: {self.tree}\n")
        return path

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """The environment of a production: databases, and who may ask the API."""
        auth, key, bundle = TokenAuth(), self.home / "registry.key", self.home / "bundle.pem"
        key.write_text(auth.signing_key)
        bundle.write_bytes(auth.certificate())
        return {
            **super().variables,
            "ALLOWED_HOSTS": HOST,
            "LOG_LEVEL": "INFO",  # an import says only then what it waits for
            "DATABASE_URL": self.database.url,
            "REGISTRY_DATABASE_URL": self.database.url,
            "REGISTRY_AUTH_TOKEN_REALM": auth.realm,
            "REGISTRY_AUTH_TOKEN_SERVICE": auth.service,
            "REGISTRY_AUTH_TOKEN_ISSUER": auth.issuer,
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(bundle),
        }

    @cached_property
    def site(self) -> str:
        """The address of a site that serves the database."""
        return self.stack.enter_context(served(self.database.url, self.variables)).url.rstrip("/")

    def put_in(self, text: str) -> str:
        """Put in the storage tree, the key and the site of this page."""
        text = re.sub(r"/var/lib/registry(?![\w-])", str(self.tree), text)
        text = re.sub(r"--metrics-port \d+", lambda _: f"--metrics-port {free_port()}", text)
        text = text.replace("/etc/docker/registry/config.yml", str(self.configuration))
        text = text.replace("/etc/gitlab/registry.key", str(self.home / "registry.key"))
        return text.replace(SITE, self.site) if SITE in text else text

    def _prepare(self, command: str) -> None:
        """Let a command find what it needs."""
        if NEEDS_THE_SCHEMA.search(command):
            migrate(self.database)
        with self.database.connect() as connection:
            if match := VERB.search(command):
                for query in NEEDED.get(match["verb"], ()):
                    connection.execute(query, {"name": match["name"]})
            if BEGINS_AN_IMPORT.search(command):
                connection.execute(EMPTY_REGISTRY)
                unpack_tree(self.tree)

    def _run_here(self, command: str) -> None:
        """Run a command of ours in this process, where somebody answers yes."""
        words = shlex.split(self.put_in(command))
        said, code = io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(said), mock.patch.object(sys, "stdin", io.StringIO("y\n")):
            try:
                execute_from_command_line(words[1:])
            except SystemExit as end:
                code = end.code or 0
        assert code == EXIT_CODES.get(command, 0), f"{command}\nended with {code} and said:\n{said.getvalue()}"

    def _serve_site(self, command: str) -> None:
        """Serve on a free port until the site answers; by one process, since only of one it tells that all is ready."""
        port = free_port()
        with self.started(f"{command} --address {HOST} --port {port} --processes 1") as process:
            try:
                until(Site(port, process).answers, seconds=LONGEST_SECONDS)
            finally:
                process.terminate()
        assert process.returncode in STOPPED

    def _query(self, text: str) -> None:
        command = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", self.database.url]
        done = subprocess.run(command, env=self.variables, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\nsaid:\n{done.stderr}"
