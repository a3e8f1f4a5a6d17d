"""Credentials of a project for providers. Their secrets can be set, but not read."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import page, success
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Input, Serializer, Text, TextList
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule, documented, find
from gateway_project.dashboard.forms import CredentialForm
from projects.models import Role
from proxy.models import Credential

MANAGE = ("project:manage",)
READ, WRITE = Rule(Role.MEMBER, MANAGE), Rule(Role.ADMIN, MANAGE)


class CredentialChange(Input):
    """A credential. `secret` is the provider's API key; without it, a stored one stays."""

    name = Text(source="slug", max_length=60)
    provider = Text()
    base_url = Text(required=False, allow_blank=True)
    secret = Text(required=False, write_only=True)
    models = TextList(required=False, source="model_names")


class CredentialOutput(Serializer):
    """A credential, with the last characters of its secret, and the results of its last calls."""

    id = serializers.IntegerField(source="pk")
    name = serializers.CharField(source="slug")
    provider = serializers.CharField()
    base_url = serializers.CharField()
    secret_suffix = serializers.CharField()
    models = serializers.ListField(child=serializers.CharField(), source="model_names")
    is_failing = serializers.BooleanField()
    last_success_at = serializers.DateTimeField(allow_null=True)
    last_error_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField()
    created_at = serializers.DateTimeField()


class TestedCredentialOutput(CredentialOutput):
    """A credential that has just been tested. `problem` is empty if the provider accepts it."""

    problem = serializers.SerializerMethodField()

    def get_problem(self, credential: Credential) -> str:
        """Return the result of the test."""
        problem: str = self.context["problem"]
        return problem


class CredentialList(ProjectView):
    """List and create credentials."""

    rules = {"GET": READ, "POST": WRITE}

    @documented("listCredentials", CredentialOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request, **_: str) -> Response:
        """List the credentials of the project."""
        rows = Credential.objects.for_project(self.project)
        found, cursor = paginate(rows, request, context=f"credentials-{self.project.pk}")
        return page(CredentialOutput(found, many=True).data, cursor)

    @documented("createCredential", TestedCredentialOutput, body=CredentialChange, status=201)
    def post(self, request: Request, **_: str) -> Response:
        """Create a credential, and test it. It is stored even if its provider does not accept it."""
        form = self.read(CredentialChange).submit(CredentialForm, project=self.project)
        return success(tested(form.save()), 201)


class CredentialDetail(ProjectView):
    """Show, change and delete a credential."""

    rules = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @documented("getCredential", CredentialOutput)
    def get(self, request: Request, credential_id: int, **_: str) -> Response:
        """Return a credential."""
        return success(CredentialOutput(self.find_credential(credential_id)).data)

    @documented("changeCredential", TestedCredentialOutput, body=CredentialChange)
    def patch(self, request: Request, credential_id: int, **_: str) -> Response:
        """Change a credential, and test it. A new URL needs the secret again."""
        credential = self.find_credential(credential_id)
        body = self.read(CredentialChange, partial=True)
        form = body.submit(CredentialForm, instance=credential, project=self.project)
        return success(tested(form.save()))

    @documented("deleteCredential", None)
    def delete(self, request: Request, credential_id: int, **_: str) -> Response:
        """Delete a credential."""
        self.find_credential(credential_id).delete()
        return success(None)

    def find_credential(self, credential_id: int) -> Credential:
        return find(Credential.objects.for_project(self.project), pk=credential_id)


class CredentialTest(ProjectView):
    """Test a credential."""

    rules = {"POST": WRITE}

    @documented("testCredential", TestedCredentialOutput)
    def post(self, request: Request, credential_id: int, **_: str) -> Response:
        """Call the provider with a credential, and return the problem, if there is one."""
        return success(tested(find(Credential.objects.for_project(self.project), pk=credential_id)))


def tested(credential: Credential) -> object:
    """Test a credential, and return it with the result."""
    problem = credential.test()
    credential.refresh_from_db()
    return TestedCredentialOutput(credential, context={"problem": problem}).data
