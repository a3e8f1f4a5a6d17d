"""Personal access tokens of the caller."""

from django.core.exceptions import PermissionDenied
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer, Text
from gateway_project.api.views import PAGE_PARAMETERS, ApiView, Rule, documented, find
from keys.forms import AccessTokenForm
from keys.models import AccessToken
from keys.scopes import MANAGEMENT_SCOPES
from projects.models import Role, User

ANY = Rule(Role.VIEWER, MANAGEMENT_SCOPES)


class NewToken(Input):
    """A new access token."""

    name = Text(max_length=120)
    scopes = serializers.ListField(child=Text())
    expires_on = serializers.DateField(required=False, allow_null=True)


class TokenOutput(Serializer):
    """An access token, without its secret."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_on = serializers.DateField(allow_null=True)


class IssuedTokenOutput(TokenOutput):
    """An access token with its text, which is shown only once."""

    token = serializers.SerializerMethodField()

    def get_token(self, token: AccessToken) -> str:
        """Return the text that the view has passed."""
        text: str = self.context["text"]
        return text


class TokenView(ApiView):
    """A view of the access tokens of the caller, who must be a person."""

    @property
    def user(self) -> User:
        """The person. Raises PermissionDenied for API keys."""
        user = self.caller.user
        if user is None:
            raise PermissionDenied("An API key has no access tokens. Sign in, or use an access token.")
        return user


class TokenList(TokenView):
    """List and create access tokens."""

    rules = {"GET": ANY, "POST": ANY}

    @documented("listTokens", TokenOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request) -> Response:
        """List the caller's access tokens, from new to old."""
        rows = AccessToken.objects.for_user(self.user)
        tokens, cursor = paginate(rows, request, newest_first=True, context=f"tokens-{self.user.pk}")
        return page(TokenOutput(tokens, many=True).data, cursor)

    @documented("createToken", IssuedTokenOutput, body=NewToken, status=201)
    def post(self, request: Request) -> Response:
        """Create an access token. `token` is its text, which is not shown again."""
        form = self.read(NewToken).submit(AccessTokenForm)
        self.caller.check_grant(form.cleaned_data["scopes"])
        self.caller.check_lifetime(form.expires_at)
        token, text = form.issue(self.user)
        return success(IssuedTokenOutput(token, context={"text": text}).data, 201)


class TokenDetail(TokenView):
    """Revoke an access token."""

    rules = {"DELETE": ANY}

    @documented("revokeToken", TokenOutput)
    def delete(self, request: Request, token_id: str) -> Response:
        """Revoke one of the caller's access tokens for good."""
        token = find(AccessToken.objects.for_user(self.user), public_id=token_id)
        token.revoke()
        return success(TokenOutput(token).data)
