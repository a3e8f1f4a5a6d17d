"""Members of a project and their roles."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from projects.models import Membership, Project, Role

MANAGE = ("project:manage",)
ROLES = [(role.name.lower(), role.label) for role in Role]


class RoleField(serializers.ChoiceField):
    """A role by its name in lower case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=ROLES, **kwargs)

    def to_internal_value(self, data: Any) -> Role:
        """Return the role. Raises ValidationError."""
        return Role[str(super().to_internal_value(data)).upper()]

    def to_representation(self, value: int) -> str:
        """Return the name of the role."""
        return Role(value).name.lower()


class MemberChange(Input):
    """A new role of a member."""

    role = RoleField()


class MemberOutput(Serializer):
    """A member."""

    id = serializers.IntegerField(source="pk")
    email = serializers.EmailField(source="user.email")
    role = RoleField()
    created_at = serializers.DateTimeField()


class MemberList(ProjectView):
    """List members."""

    rules = {"GET": Rule(Role.VIEWER, MANAGE)}

    @documented("listMembers", MemberOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the members of the project."""
        rows = Membership.objects.filter(project=self.project).select_related("user")
        members, cursor = paginate(rows, request, context=f"members-{self.project.pk}")
        return page(MemberOutput(members, many=True).data, cursor)


class MemberDetail(ProjectView):
    """Change the role of a member, and remove a member."""

    rules = {"PATCH": Rule(Role.ADMIN, MANAGE), "DELETE": Rule(Role.ADMIN, MANAGE)}

    @documented("changeMember", MemberOutput, body=MemberChange)
    def patch(self, request: Request, member_id: int, **_: str) -> Response:
        """Change the role of a member. Nobody can grant a role above their own."""
        member = find_member(self.project, member_id)
        body = self.read(MemberChange)
        member.change_role(body.validated_data["role"], granted_by=self.role)
        return success(MemberOutput(member).data)

    @documented("removeMember", None)
    def delete(self, request: Request, member_id: int, **_: str) -> Response:
        """Remove a member. API keys that the member has created stay."""
        find_member(self.project, member_id).remove(removed_by=self.role)
        return success(None)


def find_member(project: Project, member_id: int) -> Membership:
    return find(Membership.objects.filter(project=project).select_related("user"), pk=member_id)
