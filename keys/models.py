"""API keys of applications, and access tokens with which people use the management API."""

import datetime as dt
import hmac
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from keys import scopes, tokens
from projects.models import Project, RateLimits, User, audited, invalidates_config_cache


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


def matches(digest: str, token: tokens.Token) -> bool:
    """Return whether a digest is that of a token, with the current or an accepted earlier pepper."""
    if hmac.compare_digest(digest, token.digest(settings.KEY_PEPPER)):
        return True
    return any(hmac.compare_digest(digest, token.digest(pepper)) for pepper in settings.ACCEPTED_KEY_PEPPERS)


def default_scopes() -> list[str]:
    return [scopes.ALL]


@audited
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
    previous_digest = models.CharField(max_length=64, editable=False, blank=True, default="")
    previous_expires_at = models.DateTimeField(
        null=True, editable=False, help_text="Until then, the secret before the last rotation works too."
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

    def rotate(self, grace: dt.timedelta) -> str:
        """Replace the secret, and return the new text. The previous secret works during `grace`.

        Id, budgets, limits and records of the key stay. A rotation within the grace period of another one
        ends that period.
        """
        token = tokens.Token(self.public_id, tokens.Token.generate().secret)
        self.previous_digest, self.digest = self.digest, token.digest(settings.KEY_PEPPER)
        self.pepper_id = tokens.pepper_id(settings.KEY_PEPPER)
        self.previous_expires_at = timezone.now() + grace
        self.save(update_fields=["previous_digest", "digest", "pepper_id", "previous_expires_at"])
        return str(token)

    def verify(self, token: tokens.Token) -> bool:
        return matches(self.digest, token) or self.is_previous(token)

    def is_previous(self, token: tokens.Token) -> bool:
        """Return whether a token has the previous secret, and the grace period has not ended."""
        expires_at = self.previous_expires_at
        if expires_at is None or expires_at <= timezone.now():
            return False
        return matches(self.previous_digest, token)

    @property
    def has_current_pepper(self) -> bool:
        return self.pepper_id == tokens.pepper_id(settings.KEY_PEPPER)

    def rehash(self, token: tokens.Token) -> None:
        """Store the digest of a verified token with the current pepper, unless it has the previous secret.

        This is an update, which does not invalidate caches: processes that have the earlier digest in memory
        accept the key too.
        """
        if not matches(self.digest, token):
            return
        stored, self.digest = self.digest, token.digest(settings.KEY_PEPPER)
        self.pepper_id = tokens.pepper_id(settings.KEY_PEPPER)
        unchanged = ApiKey.objects.filter(pk=self.pk, digest=stored)
        unchanged.update(digest=self.digest, pepper_id=self.pepper_id)


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def issue(self, user: User, name: str, **fields: Any) -> tuple["AccessToken", str]:
        """Create a token. Return it with its text, which is not stored and cannot be shown again."""
        token = tokens.Token.generate(tokens.ACCESS_TOKEN_PREFIX)
        digest = token.digest(settings.KEY_PEPPER)
        return self.create(user=user, name=name, public_id=token.public_id, digest=digest, **fields), str(
            token
        )

    def for_user(self, user: User) -> "AccessTokenQuerySet":
        return self.filter(user=user, revoked_at=None)

    def find(self, text: str) -> "AccessToken | None":
        """Return the usable token with this text."""
        parsed = tokens.parse(text, tokens.ACCESS_TOKEN_PREFIX)
        if parsed is None:
            return None
        found = self.select_related("user").filter(public_id=parsed.public_id).first()
        if found is None or not found.verify(parsed):
            return None
        found.mark_used(parsed)
        return found


@audited
class AccessToken(models.Model):
    """A personal access token: a person's right to use the REST API, limited to scopes."""

    user = models.ForeignKey(User, models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=120)
    public_id = models.CharField(max_length=tokens.PUBLIC_ID_LENGTH, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_on = models.DateField(null=True, editable=False)

    objects = AccessTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    @property
    def is_active(self) -> bool:
        """Return whether the token is not revoked, has not expired, and its user may sign in."""
        has_expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not has_expired and self.user.is_active

    def verify(self, token: tokens.Token) -> bool:
        return self.is_active and matches(self.digest, token)

    def revoke(self) -> None:
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

    def mark_used(self, token: tokens.Token) -> None:
        """Store the day of the last use, and the digest with the current pepper, at most once a day."""
        today = timezone.now().date()
        if self.last_used_on != today:
            digest = token.digest(settings.KEY_PEPPER)
            AccessToken.objects.filter(pk=self.pk).update(last_used_on=today, digest=digest)
