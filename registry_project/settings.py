"""Every setting, and every read of the environment, each described by the `#:` comment above it.

`make reference` writes docs/reference/settings.md from those comments. A line `#: default: …` is for a default that the
code does not spell out.

Nothing is decided here: a missing or contradictory variable is an error that names it.
"""

import datetime
import logging
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from registry_project import environment as env
from registry_project import registry_config
from registry_project.admin_look import LOOK
from registry_project.logs import configure_events, log_configuration

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# --- The service ------------------------------------------------------------------------------------------------

#: Signs sessions: at least 50 random characters, the same for all processes of the site. A demonstration makes one up
#: and keeps it.
SECRET_KEY = env.text("SECRET_KEY")
#: Django's debug pages; never in production.
DEBUG = env.boolean("DEBUG", default=False)
#: Host names that the site answers to. A demonstration answers to this machine alone.
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS")
#: Origins, such as `https://registry-admin.example.com`, of a proxy in front.
CSRF_TRUSTED_ORIGINS = env.names("CSRF_TRUSTED_ORIGINS")
#: The zone in which times are shown where no browser knows a better one, and in which they are typed.
TIME_ZONE = env.time_zone("TIME_ZONE", default="UTC")
USE_TZ = True

ROOT_URLCONF = "registry_project.urls"
WSGI_APPLICATION = "registry_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "registry_project",  # its templates come before those of unfold, which come before Django's
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "procrastinate.contrib.django",
    "schema_migrations",
    "background_migrations",
    "metadata_import",
]

MIDDLEWARE = [
    "registry_project.middleware.operations",
    "registry_project.middleware.measure",
    "django.middleware.security.SecurityMiddleware",
    "registry_project.content_policy.ContentPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "registry_project.request_log.RequestLogMiddleware",  # below it, for static files are no news
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "registry_project.database_errors.DatabaseErrorsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

STATIC_URL = "static/"
# The installed apps' own files are served from where they lie: no collectstatic step to forget.
WHITENOISE_USE_FINDERS = True

#: Trust `X-Forwarded-Proto`, and the last address of `X-Forwarded-For`; only behind a proxy that sets them itself.
BEHIND_PROXY = env.boolean("REGISTRY_BEHIND_PROXY", default=False)

# --- The admin site -----------------------------------------------------------------------------------------------

UNFOLD = LOOK

# --- Log in: after so many failures of one name from one address, both have to wait ---------------------------------

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
#: Failed attempts of one name from one address before both have to wait 15 minutes.
AXES_FAILURE_LIMIT = env.positive("REGISTRY_LOGIN_FAILURES", default=5)
AXES_COOLOFF_TIME = datetime.timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registry/locked_out.html"
AXES_CLIENT_IP_CALLABLE = "registry_project.log_in.client_address"
AXES_VERBOSE = False

# --- The REST API: closed without the settings of its tokens ------------------------------------------------------

#: Where clients get their tokens, such as `https://gitlab.example.com/jwt/auth`; named in refusals, never called. This
#: and the next three are set together or not at all: without them [the API](../how-to/use-the-api.md) is closed. A
#: demonstration makes up all four.
AUTH_TOKEN_REALM = env.quotable("REGISTRY_AUTH_TOKEN_REALM", default="")
#: The audience that tokens must be for: `container_registry` with GitLab Rails.
AUTH_TOKEN_SERVICE = env.quotable("REGISTRY_AUTH_TOKEN_SERVICE", default="")
#: The issuer that tokens must be from: `omnibus-gitlab-issuer` or `gitlab-issuer`, whatever `registry.issuer` of
#: GitLab Rails says.
AUTH_TOKEN_ISSUER = env.text("REGISTRY_AUTH_TOKEN_ISSUER", default="")
#: A PEM file with the certificates of the keys that may sign tokens; read anew when it changes.
AUTH_TOKEN_ROOTCERTBUNDLE = env.text("REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE", default="")
env.all_or_none(
    {
        "REGISTRY_AUTH_TOKEN_REALM": AUTH_TOKEN_REALM,
        "REGISTRY_AUTH_TOKEN_SERVICE": AUTH_TOKEN_SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": AUTH_TOKEN_ISSUER,
        "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": AUTH_TOKEN_ROOTCERTBUNDLE,
    }
)
#: Tokens that fail, of one address and in one process, before it is answered 429 in place of 401; a valid token is
#: never refused for it. 0 is no end.
API_FAILED_TOKENS_PER_MINUTE = env.count("REGISTRY_API_FAILED_TOKENS_PER_MINUTE", default=600)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["registry_project.api.authentication.RegistryTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["registry_project.api.permissions.HasRegistryAccess"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "registry_project.api.media.JSONOnly",
    "DEFAULT_PARSER_CLASSES": ["registry_project.api.media.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["registry_project.api.media.RegistryJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "registry_project.api.exceptions.answer_error",
    "UNAUTHENTICATED_USER": None,
    "DATETIME_FORMAT": None,  # the renderer writes times
    "NUM_PROXIES": int(BEHIND_PROXY),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Registry metadata",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["registry_project.api.description.canonical_routes"],
    "POSTPROCESSING_HOOKS": [
        "registry_project.api.description.add_access",
        "registry_project.api.description.add_errors",
    ],
    "AUTHENTICATION_WHITELIST": [],
}

# --- Security headers: strict, unless the site is served without TLS ---------------------------------------------

#: Redirects to HTTPS, secure cookies, HSTS for a year. A demonstration is served without.
HTTPS = env.boolean("REGISTRY_HTTPS", default=True)
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SESSION_COOKIE_SECURE = HTTPS
SESSION_COOKIE_AGE = 12 * 3_600  # a working day
CSRF_COOKIE_SECURE = HTTPS
X_FRAME_OPTIONS = "DENY"

# --- What machines ask: health and metrics --------------------------------------------------------------------------

#: Answer [`/healthz`](../operations/health.md).
HEALTHZ = env.boolean("REGISTRY_HEALTHZ", default=True)
#: Answer [`/readyz`](../operations/health.md).
READYZ = env.boolean("REGISTRY_READYZ", default=True)
#: Networks that may read [`/metrics`](../operations/monitoring.md); `none` switches it off.
METRICS_NETWORKS = env.networks("REGISTRY_METRICS_NETWORKS", default="127.0.0.0/8,::1")

# --- Databases --------------------------------------------------------------------------------------------------

#: `self`: this project creates the schema. `gitlab`: GitLab's registry did; then `migrate up`, `down` and `new`
#: refuse, and `DATABASE_URL` must name another database than `REGISTRY_DATABASE_URL`.
SCHEMA_OWNER = env.choice("REGISTRY_SCHEMA_OWNER", default="self", choices=("self", "gitlab"))
# The version of the registry that the database belongs to; nobody but GitLab's release knows its own.
_OWN_VERSION = {"self": VERSION, "gitlab": None}[SCHEMA_OWNER]
#: The registry's version, such as `v4.32.0-gitlab`, as the API tells it to GitLab Rails.
#: default: this project's own version; required where GitLab's registry created the schema
REGISTRY_VERSION = "v" + env.quotable("REGISTRY_VERSION", default=_OWN_VERSION).removeprefix("v")

_DATABASE_DEFAULTS = {
    "CONN_MAX_AGE": 60,
    "CONN_HEALTH_CHECKS": True,
    # A cursor held by the server outlives a transaction, which a transaction pooler does not allow.
    "DISABLE_SERVER_SIDE_CURSORS": True,
}
REGISTRY_CONFIG = registry_config.read(os.environ)
#: The registry's metadata database. Schema migrations need a direct connection, all else may go through a
#: transaction pooler.
#: default: what the registry's own configuration names, else `DATABASE_URL`
_REGISTRY_DATABASE = env.registry_database("REGISTRY_DATABASE_URL", REGISTRY_CONFIG.as_django())
DATABASES = {
    #: Django's own tables: users, sessions. A demonstration uses the bundled PostgreSQL.
    "default": {**_DATABASE_DEFAULTS, **env.database("DATABASE_URL")},
    "registry": {**_DATABASE_DEFAULTS, **_REGISTRY_DATABASE},
    #: GitLab Rails' database, for background migrations of its tables; Django's migrations never run there.
    #: default: the registry's database
    "rails": {**_DATABASE_DEFAULTS, **env.database_or("RAILS_DATABASE_URL", _REGISTRY_DATABASE)},
}
# Without these a server that vanished, with its machine or behind a firewall, is waited for for hours.
_NOTICE_A_DEAD_SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
for _database in DATABASES.values():
    _database["OPTIONS"] = {**_NOTICE_A_DEAD_SERVER, **_database.get("OPTIONS", {})}
DATABASE_ROUTERS = ["registry_project.routers.RegistryRouter"]

if SCHEMA_OWNER == "gitlab" and env.are_one_database(DATABASES["default"], DATABASES["registry"]):
    raise ImproperlyConfigured(
        "REGISTRY_SCHEMA_OWNER=gitlab: DATABASE_URL and REGISTRY_DATABASE_URL name the same database. "
        "Django's own tables must stay out of GitLab's: point DATABASE_URL at another database."
    )

# --- Schema migrations ------------------------------------------------------------------------------------------

#: `database migrate up` and `status` leave post-deployment migrations out.
SKIP_POST_DEPLOYMENT_MIGRATIONS = env.boolean("SKIP_POST_DEPLOYMENT_MIGRATIONS", default=False)
#: How long a statement of a schema migration waits for a lock before it gives way and tries again.
SCHEMA_LOCK_TIMEOUT_SECONDS = env.seconds("REGISTRY_SCHEMA_LOCK_TIMEOUT", default=5.0)
#: How long one statement of a schema migration may run; 0 is no end.
SCHEMA_STATEMENT_TIMEOUT_SECONDS = env.seconds("REGISTRY_SCHEMA_STATEMENT_TIMEOUT", default=0.0)
#: How long to wait for another `database migrate` to end.
SCHEMA_MIGRATOR_WAIT_SECONDS = env.seconds("REGISTRY_SCHEMA_MIGRATOR_WAIT", default=600.0)

# --- Background migrations --------------------------------------------------------------------------------------

#: The pause between two jobs of one background migration, unless its controls or its work function say otherwise.
BBM_JOB_INTERVAL_SECONDS = env.seconds("REGISTRY_BBM_JOB_INTERVAL", default=2.0)
#: How long a statement of a job may run; 0 is no end.
BBM_JOB_TIMEOUT_SECONDS = env.seconds("REGISTRY_BBM_JOB_TIMEOUT", default=180.0)
#: Attempts of a job before it is split (after time-outs) or set aside.
BBM_MAX_ATTEMPTS = env.positive("REGISTRY_BBM_MAX_ATTEMPTS", default=5)
#: How long a worker shows no sign of life before its jobs are taken from it.
BBM_GRACE_SECONDS = env.seconds("REGISTRY_BBM_GRACE", default=30.0)
#: A file that a worker touches while it is alive, for [`worker --check`](../operations/health.md).
BBM_HEARTBEAT_FILE = env.writable_file("REGISTRY_BBM_HEARTBEAT_FILE")
#: How long a stopped worker lets a sub-batch go on before it cancels it.
BBM_STOP_TIMEOUT_SECONDS = env.seconds("REGISTRY_BBM_STOP_TIMEOUT", default=30.0)
#: How long a job should take where the batch size adapts itself.
BBM_TARGET_SECONDS = env.seconds("REGISTRY_BBM_TARGET", default=60.0)
#: Workers pause while more segments than this wait to be archived.
BBM_MAX_PENDING_WAL_SEGMENTS = env.count("REGISTRY_BBM_MAX_PENDING_WAL_SEGMENTS", default=42)
#: Workers pause while a replica is further behind.
BBM_MAX_REPLICA_LAG_SECONDS = env.seconds("REGISTRY_BBM_MAX_REPLICA_LAG", default=10.0)
#: Workers pause while more sessions wait for locks on the table.
BBM_MAX_LOCK_WAITERS = env.count("REGISTRY_BBM_MAX_LOCK_WAITERS", default=0)
#: Workers pause while a vacuum is at the table.
BBM_THROTTLE_ON_VACUUM = env.boolean("REGISTRY_BBM_THROTTLE_ON_VACUUM", default=True)
#: `package.module:function`, called with `schema.table` before each job; the text it returns is the reason to pause,
#: `None` lets it run.
BBM_THROTTLE_HOOK = env.text("REGISTRY_BBM_THROTTLE_HOOK", default="")

# --- The registry's own HTTP API, for background migrations that ask it ---------------------------------------------

#: The registry's own address, such as `https://registry.example.com`, for background migrations that [ask it for
#: tags](../how-to/reset-container-repositories.md). Without it nothing is asked.
REGISTRY_API_URL = env.text("REGISTRY_API_URL", default="")
#: A file that holds that key; `REGISTRY_API_SIGNING_KEY` has precedence.
_KEY_FROM_FILE = env.file_text("REGISTRY_API_SIGNING_KEY_FILE")
#: The RSA key that GitLab Rails signs its tokens with (its setting `registry.key`), as PEM text. Without a key no
#: token is sent.
#: default: what `REGISTRY_API_SIGNING_KEY_FILE` holds
REGISTRY_API_SIGNING_KEY = env.text("REGISTRY_API_SIGNING_KEY", default=_KEY_FROM_FILE)
#: The issuer in those tokens, as the registry expects it; a Linux package says `omnibus-gitlab-issuer`.
REGISTRY_API_TOKEN_ISSUER = env.text("REGISTRY_API_TOKEN_ISSUER", default="gitlab-issuer")
#: How long one request to the registry may take in all.
REGISTRY_API_TIMEOUT_SECONDS = env.seconds("REGISTRY_API_TIMEOUT", default=10.0)
#: Requests in flight at once.
REGISTRY_API_CONCURRENCY = env.positive("REGISTRY_API_CONCURRENCY", default=10)

# --- Import -----------------------------------------------------------------------------------------------------

#: Processes that share an import.
#: default: one per processor, at most 4
IMPORT_CONCURRENCY = env.positive("REGISTRY_IMPORT_CONCURRENCY", default=min(4, os.cpu_count() or 1))
#: Reads that each of them has in flight at most; of a directory one at a time where it answers at once, more while it
#: is waited for.
#: default: 0, which is 8 for a directory and 128 for object storage
IMPORT_READS_IN_FLIGHT = env.count("REGISTRY_IMPORT_READS_IN_FLIGHT", default=0)
#: How long an import is silent before it counts as dead where its session does not tell, that is behind a pooler.
IMPORT_GRACE_SECONDS = env.seconds("REGISTRY_IMPORT_GRACE", default=30.0)

# Tasks of an import that many machines share; their tables are in `default`.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""
PROCRASTINATE_IMPORT_PATHS = ["metadata_import.tasks"]
PROCRASTINATE_WORKER_DEFAULTS = {
    #: Tasks of a distributed import that one `procrastinate worker` does at once; one of all the workers' is taken up
    #: by the coordination of an import that was handed over.
    "concurrency": env.positive("REGISTRY_IMPORT_TASKS", default=4),
    "delete_jobs": "successful",
    "update_heartbeat_interval": IMPORT_GRACE_SECONDS / 4,
    "stalled_worker_timeout": IMPORT_GRACE_SECONDS,
}

# --- Logs: one line per event on standard error ------------------------------------------------------------------

#: One JSON object per line, or lines for people. [Logs](../operations/logs.md) go to standard error.
#: default: `console` at a terminal and with `DEBUG`, else `json`
LOG_FORMAT = env.choice("REGISTRY_LOG_FORMAT", default=env.log_format(debug=DEBUG), choices=("json", "console"))
#: The file to which background migrations append one JSON line per row that they decide about, whatever `LOG_LEVEL`
#: is; it may be rotated away.
#: default: standard error
_MIGRATIONS_LOG = env.writable_file("REGISTRY_MIGRATIONS_LOG")
# Never written, wherever they turn up.
SECRETS = [
    SECRET_KEY,
    REGISTRY_API_SIGNING_KEY,
    *(str(_database.get("PASSWORD") or "") for _database in DATABASES.values()),
    *REGISTRY_CONFIG.secrets(),
]
#: What is logged.
LOG_LEVEL = env.log_level("LOG_LEVEL", default="WARNING")
LOG_LINES: dict[str, Any] = {"()": "registry_project.logs.Lines", "form": LOG_FORMAT, "secrets": SECRETS}
LOGGING = log_configuration(lines=LOG_LINES, level=LOG_LEVEL, secrets=SECRETS, migrations_file=_MIGRATIONS_LOG)
configure_events()
#: Where errors are [reported](../operations/monitoring.md); nothing is where it is empty.
SENTRY_DSN = env.text("SENTRY_DSN", default="")
#: As what they are reported.
SENTRY_ENVIRONMENT = env.text("SENTRY_ENVIRONMENT", default="production")
# The request's line has the address that our own proxy saw, and asks no session who it is.
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_STATUS_5XX_LOG_LEVEL = logging.WARNING  # an error has been told as one before
DJANGO_STRUCTLOG_USER_ID_FIELD = None
