"""Secrets at rest: encrypted, bound to their project, and readable during a rotation of keys."""

import io
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from projects import vault
from projects.models import Project
from proxy.models import Credential

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_rotation_moves_every_secret_to_the_first_key(
    use_encryption_keys: Callable[..., None], project: Project
) -> None:
    use_encryption_keys(OLD)
    credential = Credential(project=project, slug="a", provider="openai")
    credential.set_secret("sk-provider-secret")
    credential.save()
    use_encryption_keys(NEW, OLD)
    call_command("rotate_credentials", stdout=io.StringIO())
    use_encryption_keys(NEW)
    credential.refresh_from_db()
    assert credential.decrypt_secret() == "sk-provider-secret"
    use_encryption_keys(OLD)
    with pytest.raises(vault.DecryptionError):
        credential.decrypt_secret()
    with pytest.raises(CommandError, match="decrypts 1 of the secrets"):
        call_command("rotate_credentials")


def test_ciphertext_decrypts_only_in_its_own_project(use_encryption_keys: Callable[..., None]) -> None:
    use_encryption_keys(OLD)
    sealed = vault.seal(1, "sk-provider-secret")
    assert "provider" not in sealed and vault.unseal(1, sealed) == "sk-provider-secret"
    with pytest.raises(vault.DecryptionError, match="another project"):
        vault.unseal(2, sealed)
    with pytest.raises(vault.DecryptionError):
        vault.unseal(1, "garbage")
