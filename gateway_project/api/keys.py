"""API keys of a project."""

import datetime as dt
from typing import Any

from django.core.exceptions import PermissionDenied
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.callers import Caller
from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Integer, Serializer, Text, TextList, UsdField
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from gateway_project.dashboard.forms import BudgetedKeyForm
from keys.forms import KeyEditForm
from keys.models import ApiKey
from projects.models import Project, Role

KEYS = ("keys:manage",)
DEFAULT_GRACE_S, MAX_GRACE_S = 86_400, 30 * 86_400


class RateLimitFields(Serializer):
    """The rate limits of a key or project."""

    rpm_limit = Integer(required=False, allow_null=True)
    tpm_limit = Integer(required=False, allow_null=True)
    concurrency_limit = Integer(required=False, allow_null=True)


class RateLimitOutput(Serializer):
    """The rate limits of a key or project in a response; null for no limit."""

    rpm_limit = serializers.IntegerField(allow_null=True)
    tpm_limit = serializers.IntegerField(allow_null=True)
    concurrency_limit = serializers.IntegerField(allow_null=True)


class KeyChange(RateLimitFields, Input):
    """The fields of a key that can change."""

    name = Text(source="label", max_length=120)
    allowed_models = TextList(required=False)


class NewKey(KeyChange):
    """A new key. Budgets are in US dollars."""

    scopes = serializers.ListField(child=Text(), required=False)
    expires_on = serializers.DateField(required=False, allow_null=True)
    daily_budget = UsdField(source="day_budget", required=False, allow_null=True)
    monthly_budget = UsdField(source="month_budget", required=False, allow_null=True)


class Rotation(Input):
    """The time for which the previous secret of a rotated key still works."""

    grace_s = Integer(min_value=0, max_value=MAX_GRACE_S, default=DEFAULT_GRACE_S)


class KeyOutput(RateLimitOutput):
    """A key, without its secret."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField(source="label")
    masked = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    allowed_models = serializers.ListField(child=serializers.CharField())
    is_active = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class IssuedKeyOutput(KeyOutput):
    """A key with its text, which is shown only once."""

    api_key = serializers.SerializerMethodField()

    def get_api_key(self, key: ApiKey) -> str:
        """Return the text that `issued` has passed."""
        text: str = self.context["text"]
        return text


def issued(key: ApiKey, text: str) -> Any:
    """Return a key with its text."""
    return IssuedKeyOutput(key, context={"text": text}).data


class KeyList(ProjectView):
    """List and create the keys of a project."""

    rules = {"GET": Rule(Role.VIEWER, KEYS), "POST": Rule(Role.MEMBER, KEYS)}

    @documented("listKeys", KeyOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the keys of the project, from new to old."""
        return self.list_keys(request)

    @documented("createKey", IssuedKeyOutput, body=NewKey, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a key. `apiKey` is its text, which is not shown again."""
        return self.create_key()

    def list_keys(self, request: Request) -> Response:
        rows = ApiKey.objects.filter(project=self.project)
        keys, cursor = paginate(rows, request, newest_first=True, context=f"keys-{self.project.pk}")
        return page(KeyOutput(keys, many=True).data, cursor)

    def create_key(self) -> Response:
        form = self.read(NewKey).submit(BudgetedKeyForm, project=self.project, role=self.role)
        self.caller.check_grant(form.cleaned_data["scopes"])
        self.caller.check_limits(form.cleaned_data["allowed_models"], form.expires_at)
        return success(issued(*form.issue(created_by=self.caller.user)), 201)


class OwnKeyList(KeyList):
    """List and create keys of the caller's only project, under a path that names no project."""

    def check_access(self, rule: Rule, **kwargs: Any) -> None:
        """Enter the caller's only project. Raises PermissionDenied if the caller has none or several."""
        projects = list(self.caller.projects()[:2])
        if len(projects) != 1:
            raise PermissionDenied(
                "You have access to several projects or none. Name one: /api/v1/projects/{slug}/keys."
            )
        self.enter(projects[0].slug, rule)

    @documented("listOwnKeys", KeyOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the keys of the caller's only project, from new to old."""
        return self.list_keys(request)

    @documented("createOwnKey", IssuedKeyOutput, body=NewKey, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a key of the caller's only project. `apiKey` is its text, which is not shown again."""
        return self.create_key()


class KeyDetail(ProjectView):
    """Show, change and revoke a key."""

    rules = {
        "GET": Rule(Role.VIEWER, KEYS),
        "PATCH": Rule(Role.ADMIN, KEYS),
        "DELETE": Rule(Role.MEMBER, KEYS),
    }

    @documented("getKey", KeyOutput)
    def get(self, request: Request, public_id: str, **_: str) -> Response:
        """Return a key."""
        return success(KeyOutput(find_key(self.project, public_id)).data)

    @documented("changeKey", KeyOutput, body=KeyChange)
    def patch(self, request: Request, public_id: str, **_: str) -> Response:
        """Change the name, the models or the rate limits of a key."""
        key = find(ApiKey.objects.filter(project=self.project, revoked_at=None), public_id=public_id)
        form = self.read(KeyChange, partial=True).submit(KeyEditForm, instance=key)
        self.caller.check_limits(form.cleaned_data["allowed_models"], key.expires_at)
        return success(KeyOutput(form.save()).data)

    @documented("revokeKey", KeyOutput)
    def delete(self, request: Request, public_id: str, **_: str) -> Response:
        """Revoke a key for good. Its requests in flight are aborted."""
        key = find_key(self.project, public_id)
        key.revoke()
        return success(KeyOutput(key).data)


class KeyRotation(ProjectView):
    """Replace the secret of a key."""

    rules = {"POST": Rule(Role.ADMIN, KEYS)}

    @documented("rotateKey", IssuedKeyOutput, body=Rotation)
    def post(self, request: Request, public_id: str, **_: str) -> Response:
        """Replace the secret of a key. The previous one works for `graceS` seconds, a day by default."""
        key = find(ApiKey.objects.filter(project=self.project, revoked_at=None), public_id=public_id)
        check_takeover(self.caller, key)
        body = self.read(Rotation)
        return success(issued(key, key.rotate(dt.timedelta(seconds=body.validated_data["grace_s"]))))


def check_takeover(caller: Caller, key: ApiKey) -> None:
    """Raise PermissionDenied if the key may do more than the caller, who would get its secret."""
    caller.check_grant(key.scopes)
    caller.check_limits(key.allowed_models, key.expires_at)


def find_key(project: Project, public_id: str) -> ApiKey:
    return find(ApiKey.objects.filter(project=project), public_id=public_id)
