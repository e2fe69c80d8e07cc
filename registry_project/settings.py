"""Every setting, and every read of the environment; docs/how-to/configure.md describes each variable.

Nothing is decided here: a missing or contradictory variable is an error that names it.
"""

from pathlib import Path

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

env = environ.Env()

# --- The service ------------------------------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

ROOT_URLCONF = "registry_project.urls"
WSGI_APPLICATION = "registry_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "registry_project",
    "schema_migrations",
    "metadata_import",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

# Closed unless a view opens itself: no authentication is configured for the API yet, so nobody gets in.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}

# --- Security headers: strict, unless the site is served without TLS ---------------------------------------------

HTTPS = env.bool("REGISTRY_HTTPS", default=True)
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("REGISTRY_BEHIND_PROXY", default=False) else None
)
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
X_FRAME_OPTIONS = "DENY"

# --- Databases --------------------------------------------------------------------------------------------------

SCHEMA_OWNER = env.str("REGISTRY_SCHEMA_OWNER", default="self")
if SCHEMA_OWNER not in ("self", "gitlab"):
    raise ImproperlyConfigured(f"REGISTRY_SCHEMA_OWNER is {SCHEMA_OWNER!r}; it must be 'self' or 'gitlab'.")

_DATABASE_DEFAULTS = {
    "ATOMIC_REQUESTS": False,
    "CONN_MAX_AGE": 60,
    "CONN_HEALTH_CHECKS": True,
    # A cursor held by the server outlives a transaction, which a transaction pooler does not allow.
    "DISABLE_SERVER_SIDE_CURSORS": True,
}
_DEFAULT_URL = env.str("DATABASE_URL")
DATABASES = {
    alias: {**env.db_url_config(url), **_DATABASE_DEFAULTS}
    for alias, url in {
        "default": _DEFAULT_URL,
        "registry": env.str("REGISTRY_DATABASE_URL", default=_DEFAULT_URL),
    }.items()
}
for _database in DATABASES.values():
    _database.setdefault("OPTIONS", {}).setdefault("connect_timeout", 10)
DATABASE_ROUTERS = ["registry_project.routers.RegistryRouter"]

if SCHEMA_OWNER == "gitlab" and all(
    DATABASES["default"][part] == DATABASES["registry"][part] for part in ("HOST", "PORT", "NAME")
):
    raise ImproperlyConfigured(
        "REGISTRY_SCHEMA_OWNER=gitlab: DATABASE_URL and REGISTRY_DATABASE_URL name the same database. "
        "Django's own tables must stay out of GitLab's: point DATABASE_URL at another database."
    )

# --- Schema migrations ------------------------------------------------------------------------------------------

SKIP_POST_DEPLOYMENT_MIGRATIONS = env.bool("SKIP_POST_DEPLOYMENT_MIGRATIONS", default=False)
SCHEMA_LOCK_TIMEOUT_SECONDS = env.float("REGISTRY_SCHEMA_LOCK_TIMEOUT", default=5.0)
SCHEMA_STATEMENT_TIMEOUT_SECONDS = env.float("REGISTRY_SCHEMA_STATEMENT_TIMEOUT", default=0.0)
SCHEMA_MIGRATOR_WAIT_SECONDS = env.float("REGISTRY_SCHEMA_MIGRATOR_WAIT", default=600.0)

# --- Import -----------------------------------------------------------------------------------------------------

IMPORT_CONCURRENCY = env.int("REGISTRY_IMPORT_CONCURRENCY", default=8)

# --- Logs: one line per event on standard error ------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="WARNING")},
}
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
