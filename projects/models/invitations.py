"""Invitations to a project: bound to an e-mail address, valid for 72 hours, usable once."""

import datetime as dt
import secrets
from hashlib import sha256

from allauth.account.models import EmailAddress
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.utils import timezone

from projects.models.audit import audited
from projects.models.projects import Membership, Project, Role
from projects.models.users import User

VALID_FOR = dt.timedelta(hours=72)
MAX_PENDING = 100
TOKEN_BYTES = 32
NOT_VALID = (
    "This invitation is not valid: it has expired, was used or revoked, or is for another e-mail address. "
    "Sign in with the invited address, confirm it, or ask for a new invitation."
)


def digest(text: str) -> str:
    """Return what is stored of a token. A pepper is not needed, because the token cannot be guessed."""
    return sha256(text.encode()).hexdigest()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def for_project(self, project: Project) -> "InvitationQuerySet":
        return self.filter(project=project)

    def pending(self) -> "InvitationQuerySet":
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=timezone.now())

    @transaction.atomic
    def invite(
        self, project: Project, email: str, role: Role, *, granted_by: Role, invited_by: User | None
    ) -> tuple["Invitation", str]:
        """Create an invitation, in place of a pending one for the same address. Return it with its token.

        Raises PermissionDenied for a role above `granted_by`, and ValidationError for members and for too
        many pending invitations.
        """
        email = email.lower()
        if role > granted_by:
            raise PermissionDenied("You cannot grant a role above your own.")
        if project.memberships.filter(user__email=email).exists():
            raise ValidationError(f"{email} is already a member of this project.")
        pending = self.for_project(project).pending()
        pending.filter(email=email).update(revoked_at=timezone.now())
        if pending.count() >= MAX_PENDING:
            raise ValidationError(f"A project can have at most {MAX_PENDING} pending invitations.")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        fields = {"role": role, "digest": digest(token), "expires_at": timezone.now() + VALID_FOR}
        return self.create(project=project, email=email, invited_by=invited_by, **fields), token

    @transaction.atomic
    def accept(self, token: str, user: User) -> Membership:
        """Make the user a member. Raises ValidationError, with one text for every invitation that fails.

        The update is a compare-and-set, so that of two concurrent requests only one succeeds.
        """
        invitation = self.pending().select_related("project").filter(digest=digest(token)).first()
        if invitation is None or not invitation.is_for(user):
            raise ValidationError(NOT_VALID)
        if not self.pending().filter(pk=invitation.pk).update(accepted_at=timezone.now()):
            raise ValidationError(NOT_VALID)
        membership, is_new = Membership.objects.get_or_create(
            project=invitation.project, user=user, defaults={"role": invitation.role}
        )
        if not is_new:
            raise ValidationError("You are already a member of this project.")
        return membership


@audited
class Invitation(models.Model):
    """An invitation of the person with an e-mail address."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="invitations")
    email = models.EmailField("e-mail address")
    role = models.PositiveSmallIntegerField(choices=Role.choices)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.email} as {self.get_role_display()}"

    def is_for(self, user: User) -> bool:
        """Return whether the invited address is the user's, and confirmed."""
        confirmed = EmailAddress.objects.filter(user=user, email__iexact=self.email, verified=True)
        return user.is_active and confirmed.exists()

    def revoke(self) -> None:
        self.revoked_at = timezone.now()
        self.save(update_fields=["revoked_at"])
