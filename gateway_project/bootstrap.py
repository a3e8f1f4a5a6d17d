"""Bootstrap of an installation: migrations, the operator, and a demo project with a key."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from billing.ledger.sql.process_lock import ADVISORY_LOCK_CLASS
from keys.models import ApiKey
from projects.models import ANONYMOUS_SLUG, DEMO_SLUG, Project, User

PASSWORD_BYTES = 12
ANONYMOUS_SCOPES = ["inference", "usage:read"]


@dataclass(frozen=True)
class BootstrapResult:
    """New credentials, to be shown once. `password` is None if it comes from GATEWAY_OPERATOR_PASSWORD."""

    email: str
    password: str | None
    demo_key: str


@contextmanager
def startup_lock() -> Iterator[None]:
    """Hold a lock, so that processes that start at the same time prepare PostgreSQL one after the other.

    On SQLite there is no lock, because only one process uses the database.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", (ADVISORY_LOCK_CLASS,))
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s, 1)", (ADVISORY_LOCK_CLASS,))


def prepare_database() -> BootstrapResult | None:
    """Migrate the database and bootstrap the installation, unless another process has just done so."""
    with startup_lock():
        call_command("migrate", interactive=False, verbosity=0)
        result = bootstrap()
        if settings.ENV.allows_anonymous:
            get_or_create_anonymous_project()
        return result


@transaction.atomic
def bootstrap() -> BootstrapResult | None:
    """Create the operator, the demo project and its key. Return None if there already is an operator."""
    if User.objects.filter(is_superuser=True).exists():
        return None
    env = settings.ENV
    password = env.gateway_operator_password or secrets.token_urlsafe(PASSWORD_BYTES)
    operator = User.objects.create_superuser(env.gateway_operator_email, password)
    EmailAddress.objects.create(user=operator, email=operator.email, verified=True, primary=True)
    project = get_or_create_demo_project(operator)
    _, key = ApiKey.objects.issue(project, "demo", created_by=operator)
    return BootstrapResult(operator.email, None if env.gateway_operator_password else password, key)


def get_or_create_demo_project(owner: User | None = None) -> Project:
    """Return the demo project. It is created with permission to use the operator's provider keys."""
    found = Project.objects.filter(slug=DEMO_SLUG).first()
    return found or Project.objects.create_with_owner(
        "Demo", owner, slug=DEMO_SLUG, uses_operator_credentials=True
    )


@transaction.atomic
def get_or_create_anonymous_project() -> Project:
    """Return the project of callers without a key. They use its first key, whose text is not stored."""
    if found := Project.objects.filter(slug=ANONYMOUS_SLUG).first():
        return found
    operator = User.objects.filter(is_superuser=True).order_by("pk").first()
    project = Project.objects.create_with_owner(
        "Anonymous",
        operator,
        slug=ANONYMOUS_SLUG,
        uses_operator_credentials=True,
        accepts_provider_keys=True,
    )
    ApiKey.objects.issue(project, "callers without a key", scopes=ANONYMOUS_SCOPES)
    return project


def describe_default_limit() -> str:
    rpm = settings.ENV.ai_gateway_rate_limit_rpm
    amount = f"{rpm} requests per minute" if rpm else "none"
    return f"{amount} for a key without a limit of its own (AI_GATEWAY_RATE_LIMIT_RPM; 0: none)"


def banner(result: BootstrapResult | None) -> str:
    url = settings.ENV.public_url
    is_open = settings.ENV.allows_anonymous
    admin_port = settings.ENV.gateway_admin_port
    admin = [f"  admin         http://127.0.0.1:{admin_port}/admin/"] if admin_port else []
    storage = f"Storage: {connection.display_name} (persistent)"
    if result is None:
        return f"{storage}\nAI gateway: {url}{' (callers need no API key)' if is_open else ''}"
    local_url = f"http://127.0.0.1:{settings.ENV.port}"
    lines = [
        storage,
        "",
        f"  AI gateway    {url}",
        *admin,
        f"  operator      {result.email}",
        f"  password      {result.password or '(GATEWAY_OPERATOR_PASSWORD)'}",
        f"  demo API key  {result.demo_key}",
        f"  limit         {describe_default_limit()}",
        *(["  callers       need no API key (AI_GATEWAY_AUTH=open)"] if is_open else []),
        "",
        "  Password and key are shown only now. Try:",
        "",
        f"  curl {local_url}/v1/chat/completions -H 'Authorization: Bearer {result.demo_key}' "
        """-H 'Content-Type: application/json' """
        """-d '{"model": "demo/chat", "messages": [{"role": "user", "content": "Hello!"}]}'""",
        "",
    ]
    return "\n".join(lines)
