"""The first start: an operator's account and a demo project with a key, shown once."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import connection, transaction

from billing.ledger.session import LOCK_SPACE
from keys.models import ApiKey
from projects.models import DEMO_SLUG, Project, User

PASSWORD_BYTES = 12


@dataclass(frozen=True)
class FirstStart:
    """What is to be told to the person who started the gateway: the password is None where they chose it themselves."""

    email: str
    password: str | None
    demo_key: str


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """Of processes that start together on PostgreSQL, the first one brings the database up to date and the others find it so. On
    SQLite there is one process."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", (LOCK_SPACE,))
        yield
        cursor.execute("SELECT pg_advisory_unlock(%s, 1)", (LOCK_SPACE,))


@transaction.atomic
def prepare() -> FirstStart | None:
    """Makes operator, demo project and key in an empty installation; None where there is one already."""
    if User.objects.filter(is_superuser=True).exists():
        return None
    env = settings.ENV
    password = env.gateway_operator_password or secrets.token_urlsafe(PASSWORD_BYTES)
    operator = User.objects.create_superuser(env.gateway_operator_email, password)
    EmailAddress.objects.create(user=operator, email=operator.email, verified=True, primary=True)
    project = demo_project(operator)
    _, key = ApiKey.objects.mint(project, "demo", created_by=operator)
    return FirstStart(operator.email, None if env.gateway_operator_password else password, key)


def demo_project(owner: User | None = None) -> Project:
    """The demo project, which may spend the operator's provider keys."""
    found = Project.objects.filter(slug=DEMO_SLUG).first()
    return found or Project.objects.found("Demo", owner, slug=DEMO_SLUG, uses_operator_credentials=True)


def banner(first: FirstStart | None) -> str:
    url = settings.ENV.public_url
    if first is None:
        return f"AI gateway: {url}"
    local = f"http://127.0.0.1:{settings.ENV.port}"
    lines = [
        "",
        f"  AI gateway    {url}",
        f"  operator      {first.email}",
        f"  password      {first.password or '(GATEWAY_OPERATOR_PASSWORD)'}",
        f"  demo API key  {first.demo_key}",
        "",
        "  Password and key are shown this once. Try:",
        "",
        f"  curl {local}/v1/chat/completions -H 'Authorization: Bearer {first.demo_key}' -H 'Content-Type: application/json' "
        """-d '{"model": "demo/chat", "messages": [{"role": "user", "content": "Hello!"}]}'""",
        "",
    ]
    return "\n".join(lines)
