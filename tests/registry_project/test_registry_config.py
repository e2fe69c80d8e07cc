"""The registry's own configuration: its file, the variables above it, and what every command makes of it."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from registry_project import registry_config
from registry_project.registry_config import PATH_VARIABLE
from tests.registry_project.test_settings import manage

CONFIG = """
version: 0.1
log: {level: debug}
storage:
  s3_v2:
    bucket: layers
    region: eu-west-1
    accesskey: AKIAPUBLIC
    secretkey: very-secret
  delete: {enabled: true}
database:
  enabled: true
  host: db.example.com
  port: 5433
  user: registry
  password: very-secret
  dbname: registry_metadata
  sslmode: verify-full
  sslrootcert: /etc/ssl/ca.pem
  connecttimeout: 5s
  pool: {maxopen: 10}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    return path


def read(path="", **variables):
    return registry_config.read({PATH_VARIABLE: str(path), **variables})


def test_the_database_of_the_file_becomes_djangos(config):
    found = read(config).as_django()
    assert found == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "registry_metadata",
        "HOST": "db.example.com",
        "PORT": "5433",
        "USER": "registry",
        "PASSWORD": "very-secret",
        "OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/etc/ssl/ca.pem", "connect_timeout": 5},
    }


def test_variables_stand_above_the_file(config):
    found = read(
        config,
        REGISTRY_DATABASE_HOST="other.example.com",
        REGISTRY_STORAGE_S3_V2_BUCKET="other",
        REGISTRY_STORAGE_S3_V2_MAXREQUESTSPERSECOND="50",
        REGISTRY_DATABASE_URL="postgres://ours@127.0.0.1/is-no-key",
    )
    assert found.database["host"] == "other.example.com"
    assert "url" not in found.database
    assert found.storage["s3_v2"]["bucket"] == "other"
    assert found.storage["s3_v2"]["maxrequestspersecond"] == 50
    assert found.storage["s3_v2"]["region"] == "eu-west-1"


def test_a_variable_chooses_another_driver(config):
    found = read(config, REGISTRY_STORAGE="filesystem", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/srv/registry")
    assert found.storage == {"delete": {"enabled": True}, "filesystem": {"rootdirectory": "/srv/registry"}}


def test_variables_alone_are_enough():
    found = read(
        REGISTRY_STORAGE_AZURE_CONTAINER="layers",
        REGISTRY_STORAGE_AZURE_CREDENTIALS_TYPE="default_credentials",
        REGISTRY_DATABASE_DBNAME="registry",
    )
    assert found.storage == {"azure": {"container": "layers", "credentials_type": "default_credentials"}}
    assert found.as_django()["NAME"] == "registry"


def test_no_database_is_none(tmp_path):
    (tmp_path / "config.yml").write_text("storage: filesystem\ndatabase: {enabled: false}\n")
    found = read(tmp_path / "config.yml")
    assert (found.storage, found.as_django()) == ({"filesystem": {}}, None)


def test_nothing_that_shows_settings_shows_secrets(config):
    assert "secret" not in repr(read(config))


def test_the_secrets_of_every_storage_are_known_to_what_redacts(config):
    assert read(config).secrets() == ["very-secret"]
    config.write_text("storage: {gcs: {bucket: layers, credentials: {client_email: a@b, private_key: PEM}}}")
    assert read(config).secrets() == ["PEM"]
    config.write_text("storage: {azure: {container: c, accountkey: a-key}}")
    assert read(config).secrets() == ["a-key"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML in line"),
        ("a: very-secret: b", "is not YAML in line 1"),
        ("- a\n- b", "holds no keys"),
        ("database: [1]", "database of .* must hold keys"),
        ("database: {host: h}", r"database\.dbname of .* is missing"),
        ("database: {dbname: d, connecttimeout: soon}", "connecttimeout of .* such as 5s"),
    ],
)
def test_what_cannot_be_read_is_named_without_its_content(tmp_path, content, message):
    (tmp_path / "config.yml").write_text(content)
    with pytest.raises(ImproperlyConfigured, match=message) as raised:
        read(tmp_path / "config.yml").as_django()
    assert "very-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "left", "path"),
    [
        (["database", "import", "--config", "c.yml", "-d"], ["database", "import", "-d"], "c.yml"),
        (["background_migrate", "--config=c.yml", "pause"], ["background_migrate", "pause"], "c.yml"),
        (["database", "import", "c.yml"], ["database", "import"], "c.yml"),
        (["database", "import", "--report", "r.yml", "/srv"], ["database", "import", "--report", "r.yml", "/srv"], ""),
        (["shell", "--", "--config", "c.yml"], ["shell", "--", "--config", "c.yml"], ""),
    ],
)
def test_every_command_line_may_name_the_file(given, left, path):
    assert registry_config.take_option(given) == (left, path)


def test_commands_use_the_database_of_the_file(config):
    shown = (
        'from django.conf import settings as s; print(*(s.DATABASES[each]["HOST"] for each in ("registry", "default")))'
    )
    done = manage("shell", "--no-imports", "--config", str(config), "-c", shown)
    assert (done.stdout, done.returncode) == ("db.example.com 127.0.0.1\n", 0), done.stderr


def test_two_different_databases_are_refused(config):
    done = manage("check", "--config", str(config), REGISTRY_DATABASE_URL="postgres://somebody@127.0.0.1:1/other")
    assert done.returncode == 1
    assert "are not the same" in done.stderr
    assert manage("check", "--config", "/nowhere.yml").stderr.startswith(
        "The configuration /nowhere.yml cannot be read"
    )
