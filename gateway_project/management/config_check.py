"""Checks of the configuration that need more than the variables: files, servers and stored secrets."""

from collections.abc import Iterator

from django.conf import settings
from django.db import connection
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway_project.cli import reason_of_unreachable_database
from keys import tokens
from keys.models import ApiKey
from projects.vault import DecryptionError
from proxy.models import Credential
from proxy.routing import config_file
from proxy.routing.routes.file_check import check_routes

REDIS_TIMEOUT_S = 3


def find_problems() -> Iterator[str]:
    """Yield one line for each problem."""
    yield from problems_of_config_file()
    if reason := reason_of_unreachable_database():
        yield reason
    elif ApiKey._meta.db_table in connection.introspection.table_names():
        yield from problems_of_stored_secrets()
    yield from problems_of_redis()


def problems_of_config_file() -> Iterator[str]:
    try:
        check_routes(config_file.load())
    except config_file.ConfigError as error:
        yield from str(error).splitlines()


def problems_of_stored_secrets() -> Iterator[str]:
    """Yield a problem if keys or credentials cannot be used with the configured secrets."""
    peppers = (settings.KEY_PEPPER, *settings.ACCEPTED_KEY_PEPPERS)
    foreign = ApiKey.objects.active().exclude(pepper_id__in=map(tokens.pepper_id, peppers))
    if count := foreign.count():
        yield f"GATEWAY_KEY_PEPPER: {count} API keys were made with another pepper, so they do not work"
    if unreadable := [each for each in Credential.objects.order_by("pk") if not can_be_decrypted(each)]:
        names = ", ".join(f"{each.project.slug}/{each.slug}" for each in unreadable)
        yield f"GATEWAY_ENCRYPTION_KEYS: no key decrypts the credentials {names}"


def can_be_decrypted(credential: Credential) -> bool:
    try:
        credential.decrypt_secret()
    except DecryptionError:
        return False
    return True


def problems_of_redis() -> Iterator[str]:
    url = settings.ENV.redis_url
    if not url:
        return
    redis = Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )
    try:
        redis.ping()
    except (RedisError, OSError) as error:
        yield f"REDIS_URL: the server cannot be used: {' '.join(str(error).split())}"
    finally:
        redis.close()
