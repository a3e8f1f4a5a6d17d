"""The first start: an operator's account and a demo project with a key, shown once."""

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
from projects.models import DEMO_SLUG, Project, User

PASSWORD_BYTES = 12


@dataclass(frozen=True)
class BootstrapResult:
    """What is to be told to the person who started the gateway: the password is None where they chose it themselves."""

    email: str
    password: str | None
    demo_key: str


@contextmanager
def startup_lock() -> Iterator[None]:
    """Of processes that start together on PostgreSQL, the first one brings the database up to date and the others find it so. On
    SQLite there is one process.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", (ADVISORY_LOCK_CLASS,))
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s, 1)", (ADVISORY_LOCK_CLASS,))


def prepare_database() -> BootstrapResult | None:
    """Migrate the database and make the first account; of processes that start together, one does it."""
    with startup_lock():
        call_command("migrate", interactive=False, verbosity=0)
        return bootstrap()


@transaction.atomic
def bootstrap() -> BootstrapResult | None:
    """Makes operator, demo project and key in an empty installation; None where there is one already."""
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
    """The demo project, which may spend the operator's provider keys."""
    found = Project.objects.filter(slug=DEMO_SLUG).first()
    return found or Project.objects.create_with_owner(
        "Demo", owner, slug=DEMO_SLUG, uses_operator_credentials=True
    )


def banner(result: BootstrapResult | None) -> str:
    url = settings.ENV.public_url
    if result is None:
        return f"AI gateway: {url}"
    local_url = f"http://127.0.0.1:{settings.ENV.port}"
    lines = [
        "",
        f"  AI gateway    {url}",
        f"  operator      {result.email}",
        f"  password      {result.password or '(GATEWAY_OPERATOR_PASSWORD)'}",
        f"  demo API key  {result.demo_key}",
        "",
        "  Password and key are shown this once. Try:",
        "",
        f"  curl {local_url}/v1/chat/completions -H 'Authorization: Bearer {result.demo_key}' -H 'Content-Type: application/json' "
        """-d '{"model": "demo/chat", "messages": [{"role": "user", "content": "Hello!"}]}'""",
        "",
    ]
    return "\n".join(lines)
