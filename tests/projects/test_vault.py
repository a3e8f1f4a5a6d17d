"""Secrets at rest: readable with our keys alone, bound to their project, and moved to a new key without a break."""

import io
from collections.abc import Callable, Iterator

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management import CommandError, call_command

from projects import vault
from projects.models import Project
from proxy.models import Credential

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def keys() -> Iterator[Callable[..., None]]:
    before = settings.ENV

    def use(*chosen: str) -> None:
        settings.ENV = before.model_copy(update={"gateway_encryption_keys": chosen})
        vault.fernet.cache_clear()

    yield use
    settings.ENV = before
    vault.fernet.cache_clear()


def test_rotation_moves_every_secret_to_the_first_key(keys: Callable[..., None], project: Project) -> None:
    keys(OLD)
    credential = Credential(project=project, slug="a", provider="openai")
    credential.set_secret("sk-provider-secret")
    credential.save()
    keys(NEW, OLD)
    call_command("rotate_credentials", stdout=io.StringIO())
    keys(NEW)
    credential.refresh_from_db()
    assert credential.decrypt_secret() == "sk-provider-secret"
    keys(OLD)
    with pytest.raises(vault.DecryptionError):
        credential.decrypt_secret()
    with pytest.raises(CommandError, match="decrypts 1 of them"):
        call_command("rotate_credentials")


def test_ciphertext_decrypts_only_in_its_own_project(keys: Callable[..., None]) -> None:
    keys(OLD)
    sealed = vault.seal(1, "sk-provider-secret")
    assert "provider" not in sealed and vault.unseal(1, sealed) == "sk-provider-secret"
    with pytest.raises(vault.DecryptionError, match="another project"):
        vault.unseal(2, sealed)
    with pytest.raises(vault.DecryptionError):
        vault.unseal(1, "garbage")
