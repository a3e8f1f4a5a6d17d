"""Invitations to a project, and their acceptance by the invited person."""

from django.core.exceptions import PermissionDenied
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page, success
from gateway_project.api.members import MemberOutput, RoleField
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer, Text
from gateway_project.api.views import PAGE_PARAMETERS, ApiView, ProjectView, Rule, documented, find
from projects.models import Invitation, Role

MANAGE = Rule(Role.ADMIN, ("project:manage",))


class NewInvitation(Input):
    """A new invitation."""

    email = serializers.EmailField()
    role = RoleField()


class Acceptance(Input):
    """The token of an invitation."""

    token = Text(max_length=100)


class InvitationOutput(Serializer):
    """An invitation, without its token."""

    id = serializers.IntegerField(source="pk")
    email = serializers.EmailField()
    role = RoleField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class NewInvitationOutput(InvitationOutput):
    """An invitation with its token, which is shown only once."""

    token = serializers.SerializerMethodField()

    def get_token(self, invitation: Invitation) -> str:
        """Return the token that the view has passed."""
        token: str = self.context["token"]
        return token


class InvitationList(ProjectView):
    """List and create invitations."""

    rules = {"GET": MANAGE, "POST": MANAGE}

    @documented("listInvitations", InvitationOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the pending invitations of the project."""
        rows = Invitation.objects.for_project(self.project).pending()
        invitations, cursor = paginate(rows, request, context=f"invitations-{self.project.pk}")
        return page(InvitationOutput(invitations, many=True).data, cursor)

    @documented("createInvitation", NewInvitationOutput, body=NewInvitation, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Invite the person with an address. Pass `token` on to them: no e-mail is sent."""
        body = self.read(NewInvitation).validated_data
        invitation, token = Invitation.objects.invite(
            self.project, body["email"], body["role"], granted_by=self.role, invited_by=self.caller.user
        )
        return success(NewInvitationOutput(invitation, context={"token": token}).data, 201)


class InvitationDetail(ProjectView):
    """Revoke an invitation."""

    rules = {"DELETE": MANAGE}

    @documented("revokeInvitation", InvitationOutput)
    def delete(self, request: Request, invitation_id: int, **_: str) -> Response:
        """Revoke a pending invitation."""
        pending = Invitation.objects.for_project(self.project).pending()
        invitation = find(pending, pk=invitation_id)
        invitation.revoke()
        return success(InvitationOutput(invitation).data)


class InvitationAcceptance(ApiView):
    """Accept an invitation."""

    rules = {"POST": Rule(Role.VIEWER, ("project:manage",))}

    @documented("acceptInvitation", MemberOutput, body=Acceptance, status=201)
    def post(self, request: Request) -> Response:
        """Become a member. The invitation must be for a confirmed e-mail address of the caller."""
        user = self.caller.user
        if user is None:
            raise PermissionDenied("An API key cannot become a member. Use a personal access token.")
        token = self.read(Acceptance).validated_data["token"]
        return success(MemberOutput(Invitation.objects.accept(token, user)).data, 201)
