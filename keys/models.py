"""API keys, with which applications authenticate."""

import hmac
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from keys import scopes, tokens
from projects.models import Project, RateLimits, User, invalidates_config_cache


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(self, project: Project, label: str, **fields: Any) -> tuple["ApiKey", str]:
        """Create a key. Return it with its text, which is not stored and cannot be shown again."""
        token = tokens.Token.generate()
        fields |= {"public_id": token.public_id, "digest": token.digest(settings.KEY_PEPPER)}
        fields["pepper_id"] = tokens.pepper_id(settings.KEY_PEPPER)
        return self.create(project=project, label=label, **fields), str(token)

    def for_project(self, project: Project) -> "ApiKeyQuerySet":
        """Select the keys of a project: first the keys that are not revoked, each group from new to old."""
        return self.filter(project=project).order_by(
            models.F("revoked_at").asc(nulls_first=True), "-created_at"
        )

    def active(self) -> "ApiKeyQuerySet":
        return self.filter(revoked_at=None).exclude(expires_at__lte=timezone.now())

    def with_another_pepper(self) -> "ApiKeyQuerySet":
        """Select the keys whose digests were not made with the current pepper."""
        return self.exclude(pepper_id=tokens.pepper_id(settings.KEY_PEPPER))


def default_scopes() -> list[str]:
    return [scopes.ALL]


@invalidates_config_cache
class ApiKey(RateLimits):
    project = models.ForeignKey(Project, models.CASCADE, related_name="keys")
    label = models.CharField("name", max_length=120, help_text="Who or what uses this key.")
    public_id = models.CharField(max_length=tokens.PUBLIC_ID_LENGTH, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    pepper_id = models.CharField(max_length=tokens.PEPPER_ID_LENGTH, editable=False)
    scopes = models.JSONField(default=default_scopes)
    allowed_models = models.JSONField(
        "allowed models", default=list, blank=True, help_text="Empty: every model of the project."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        User, models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.label} ({self.masked})"

    @property
    def masked(self) -> str:
        """The public part of the key, which identifies the key but cannot be used to authenticate."""
        return f"{tokens.PREFIX}{self.public_id}_…"

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())

    def revoke(self) -> None:
        """Revoke the key. Every gateway process that reaches the database rejects it within a second."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

    def verify(self, token: tokens.Token) -> bool:
        if hmac.compare_digest(self.digest, token.digest(settings.KEY_PEPPER)):
            return True
        return any(
            hmac.compare_digest(self.digest, token.digest(pepper)) for pepper in settings.ACCEPTED_KEY_PEPPERS
        )

    @property
    def has_current_pepper(self) -> bool:
        return self.pepper_id == tokens.pepper_id(settings.KEY_PEPPER)

    def rehash(self, token: tokens.Token) -> None:
        """Store the digest of a verified token with the current pepper.

        This is an update, which does not invalidate caches: processes that have the earlier digest in memory
        accept the key too.
        """
        stored, self.digest = self.digest, token.digest(settings.KEY_PEPPER)
        self.pepper_id = tokens.pepper_id(settings.KEY_PEPPER)
        unchanged = ApiKey.objects.filter(pk=self.pk, digest=stored)
        unchanged.update(digest=self.digest, pepper_id=self.pepper_id)
