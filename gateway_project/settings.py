"""Django settings. Values that differ between installations come from the environment (`env/`)."""

import ssl
from urllib.parse import unquote, urlsplit

import django_stubs_ext
from django.templatetags.static import static
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway_project import env as environment
from gateway_project import logging

# Makes forms, admins and managers generic over their model at run time, as the type stubs declare them.
django_stubs_ext.monkeypatch()

ENV = environment.load()
BASE_DIR = environment.BASE_DIR
PUBLIC_URL = urlsplit(ENV.public_url)
HTTPS = PUBLIC_URL.scheme == "https"

DEBUG = ENV.gateway_debug
SECRET_KEY = ENV.gateway_secret_key
ALLOWED_HOSTS = [PUBLIC_URL.hostname or "localhost", "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = [f"{PUBLIC_URL.scheme}://{PUBLIC_URL.netloc}"]

ROOT_URLCONF = "gateway_project.urls"
ASGI_APPLICATION = "gateway_project.asgi.application"
AUTH_USER_MODEL = "projects.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "gateway_project.apps.GatewayProjectConfig",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "servestatic",
    "django.contrib.staticfiles",
    "channels",
    "allauth",
    "allauth.account",
    "projects",
    "keys",
    "billing",
    "proxy",
    "gateway_project.dashboard",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "gateway_project.dashboard.security.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "gateway_project.dashboard.audit.AuditActor",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "gateway_project.dashboard.security.NoStoreForSignedIn",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway_project.dashboard.context_processors.navigation",
            ]
        },
    }
]


def sqlite_database() -> dict[str, object]:
    # With WAL, pages can read while the ledger writes. IMMEDIATE acquires the write lock at BEGIN, where
    # SQLite waits for it. In the middle of a transaction, SQLite would not wait, and the transaction would
    # fail.
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ENV.sqlite_path,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def postgresql_database(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    pairs = (pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    query = {name: unquote(value) for name, value in pairs}
    return {
        "ENGINE": "gateway_project.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        # With these options, a lost server is detected within half a minute. TCP's defaults are many minutes.
        "OPTIONS": {
            "connect_timeout": max(round(ENV.gateway_database_timeout_s), 2),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            **query,
        },
    }


DATABASES = {"default": postgresql_database(ENV.database_url) if ENV.database_url else sqlite_database()}

if ENV.redis_url:
    CACHES = {
        "default": {
            "BACKEND": "gateway_project.cache.PrefixedRedisCache",
            "LOCATION": ENV.redis_url,
            "KEY_PREFIX": "cache",
            # A hung Redis delays a page or /metrics by at most 1 s. redis-py's default is 5 s with retries.
            "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)},
        },
    }
    CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [ENV.redis_url]}}
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# Accounts: e-mail and password. The address is verified before the first sign-in.
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
ACCOUNT_ADAPTER = "projects.signup.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_FORMS = {
    "add_email": "gateway_project.dashboard.account_forms.AddEmailForm",
    "change_password": "gateway_project.dashboard.account_forms.ChangePasswordForm",
    "login": "gateway_project.dashboard.account_forms.LoginForm",
    "reset_password": "gateway_project.dashboard.account_forms.ResetPasswordForm",
    "reset_password_from_key": "gateway_project.dashboard.account_forms.ResetPasswordKeyForm",
    "signup": "gateway_project.dashboard.account_forms.SignupForm",
}
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = PUBLIC_URL.scheme
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "project-list"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"


def email_settings(url: str) -> dict[str, object]:
    """Parse `console://`, `smtp://user:password@host:587` (STARTTLS) or `smtps://...` (implicit TLS)."""
    parts = urlsplit(url)
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname or "localhost",
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_USE_TLS": parts.scheme == "smtp" and bool(parts.username),
        "EMAIL_TIMEOUT": 10,
    }


globals().update(email_settings(ENV.gateway_email_url))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENV.gateway_email_from

# These values are read for every request. An attribute of the settings is faster than a field of ENV.
KEY_PEPPER = ENV.gateway_key_pepper
ACCEPTED_KEY_PEPPERS = ENV.gateway_accepted_key_peppers
HAS_LIMITED_SURFACES = ENV.has_limited_surfaces
MAX_BODY_BYTES = ENV.gateway_max_body_bytes

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

STATIC_URL = "/static/"
STATIC_ROOT = ENV.static_root
STATICFILES_DIRS = [BASE_DIR / "static"]
# Until static files are collected (dashboard/static_files.py), and in development, source files are served.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_KEEP_ONLY_HASHED_FILES = True
SERVESTATIC_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "gateway_project.dashboard.static_files.StaticFilesStorage"},
}

LOGGING = logging.django_logging(ENV.gateway_log_level)

# Without a broker, the same schedule runs inside the gateway process.
CELERY_BROKER_URL = ENV.redis_url or "memory://"
# Celery does not verify certificates by default. If the URL has options, they replace this dictionary. Celery
# then verifies certificates too.
CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if ENV.redis_url.startswith("rediss:") else None
CELERY_TASK_ALWAYS_EAGER = not ENV.redis_url
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE_FILENAME = str(ENV.gateway_data_dir / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "roll-up-usage": {"task": "billing.tasks.roll_up_usage", "schedule": 30.0},
    "delete-expired-records": {"task": "billing.tasks.delete_expired_records", "schedule": 3600.0},
    "audit-ledger": {"task": "billing.tasks.audit_ledger", "schedule": 3600.0},
    "detect-alerts": {"task": "billing.tasks.detect_alerts", "schedule": 15.0},
    "deliver-alerts": {"task": "billing.tasks.deliver_alerts", "schedule": 15.0},
    "alert-of-retirements": {"task": "proxy.tasks.alert_of_retirements", "schedule": 3600.0},
    "alert-of-unpriced-models": {"task": "billing.tasks.alert_of_unpriced_models", "schedule": 3600.0},
    "purge-issued-ids": {"task": "proxy.tasks.purge_issued_ids", "schedule": 600.0},
    "delete-expired-prompts": {"task": "proxy.tasks.delete_expired_prompts", "schedule": 3600.0},
    "purge-idempotent-requests": {"task": "proxy.tasks.purge_idempotent_requests", "schedule": 600.0},
}

REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "AI Gateway",
    "DESCRIPTION": "The management API. Every response is an envelope with `success` and `data` or `error`.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "gateway_project.api.schema.put_in_envelope",
    ],
}

UNFOLD = {
    "SITE_TITLE": "AI Gateway",
    "SITE_HEADER": "AI Gateway",
    "SITE_URL": "/",
    "SITE_ICON": lambda _request: static("img/logo.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("img/logo.svg")}
    ],
    # The same blues as in static/css/tokens.css.
    "COLORS": {
        "primary": {
            "50": "#eef1ff",
            "100": "#e0e5ff",
            "200": "#c6cefe",
            "300": "#a3affb",
            "400": "#7f8df5",
            "500": "#5f70ec",
            "600": "#3a4fd8",
            "700": "#3142b4",
            "800": "#2a3890",
            "900": "#273373",
            "950": "#171d43",
        }
    },
}
