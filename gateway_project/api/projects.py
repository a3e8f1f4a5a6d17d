"""Projects: list, create, show, change, and purge their response cache."""

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.api.envelope import InvalidFields, page, success
from gateway_project.api.keys import RateLimitFields, RateLimitOutput
from gateway_project.api.pagination import paginate
from gateway_project.api.serializers import Flag, Input, Integer, Serializer, Text, TextList, camel_case
from gateway_project.api.views import PAGE_PARAMETERS, ApiView, ProjectView, Rule, documented
from gateway_project.dashboard.forms import CredentialForm, ProjectForm, ProjectSettingsForm
from keys.models import ApiKey
from keys.scopes import FIRST_KEY_SCOPES, MANAGEMENT_SCOPES
from projects.models import Project, Role, User
from proxy.cache import store

MANAGE = ("project:manage",)
FIRST_KEYS = {"openai_key": "openai", "anthropic_key": "anthropic", "gemini_key": "gemini"}
"""Fields of a new project that become credentials, and their providers."""


class ProjectChange(RateLimitFields, Input):
    """The settings of a project."""

    name = Text(max_length=80)
    timezone = Text(required=False)
    accepts_provider_keys = Flag(required=False)
    caches_responses = Flag(required=False)
    cache_ttl_s = Integer(required=False)
    allowed_origins = TextList(required=False)


class NewProject(Input):
    """A new project, optionally with its keys for providers, which become credentials."""

    name = Text(max_length=80)
    timezone = Text(required=False)
    openai_key = Text(required=False, write_only=True)
    anthropic_key = Text(required=False, write_only=True)
    gemini_key = Text(required=False, write_only=True)


class ProjectOutput(RateLimitOutput):
    """A project with its settings. `id` is its slug, which other paths contain."""

    id = serializers.CharField(source="slug")
    name = serializers.CharField()
    timezone = serializers.CharField()
    accepts_provider_keys = serializers.BooleanField()
    caches_responses = serializers.BooleanField()
    cache_ttl_s = serializers.IntegerField()
    allowed_origins = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class NewProjectOutput(ProjectOutput):
    """A new project with the text of its first key, which is shown only once."""

    api_key = serializers.SerializerMethodField()

    def get_api_key(self, project: Project) -> str:
        """Return the text that the view has passed."""
        text: str = self.context["text"]
        return text


class PurgeOutput(Serializer):
    """The number of deleted responses."""

    purged = serializers.IntegerField()


class ProjectList(ApiView):
    """List and create projects."""

    rules = {"GET": Rule(Role.VIEWER, MANAGEMENT_SCOPES), "POST": Rule(Role.VIEWER, MANAGE)}
    is_open = True

    @documented("listProjects", ProjectOutput(many=True), parameters=PAGE_PARAMETERS)
    def get(self, request: Request) -> Response:
        """List the projects to which the caller has access."""
        self.check_access(self.rules["GET"])
        projects, cursor = paginate(
            self.caller.projects(), request, context=f"projects-{self.caller.throttle_id}"
        )
        return page(ProjectOutput(projects, many=True).data, cursor)

    @documented("createProject", NewProjectOutput, body=NewProject, status=201)
    def post(self, request: Request) -> Response:
        """Create a project, and return the text of its first key as `apiKey`.

        This needs a user's or operator's token, unless GATEWAY_OPEN_PROJECT_CREATION is set.
        """
        owner = self.find_owner()
        project, text = create_project(self.read(NewProject), owner)
        return success(NewProjectOutput(project, context={"text": text}).data, 201)

    def find_owner(self) -> User | None:
        """Return the owner of a new project; None if the operator lets anyone create projects.

        Raises NotAuthenticated, and PermissionDenied for API keys and for tokens without the scope.
        """
        if settings.ENV.gateway_open_project_creation and self.request.auth is None:
            return None
        self.check_access(self.rules["POST"])
        if self.caller.user is None:
            raise PermissionDenied("An API key cannot create projects. Use a personal access token.")
        return self.caller.user


class ProjectDetail(ProjectView):
    """Show and change a project."""

    rules = {"GET": Rule(Role.VIEWER, MANAGEMENT_SCOPES), "PATCH": Rule(Role.ADMIN, MANAGE)}

    @documented("getProject", ProjectOutput)
    def get(self, request: Request, **_: str) -> Response:
        """Return a project."""
        return success(ProjectOutput(self.project).data)

    @documented("changeProject", ProjectOutput, body=ProjectChange)
    def patch(self, request: Request, **_: str) -> Response:
        """Change the settings of a project."""
        form = self.read(ProjectChange, partial=True).submit(ProjectSettingsForm, instance=self.project)
        return success(ProjectOutput(form.save()).data)


class ProjectCache(ProjectView):
    """The response cache of a project."""

    rules = {"DELETE": Rule(Role.ADMIN, MANAGE)}

    @documented("purgeCache", PurgeOutput)
    def delete(self, request: Request, **_: str) -> Response:
        """Delete all responses of the project from the response cache."""
        return success({"purged": async_to_sync(store.current().purge)(self.project.pk)})


@transaction.atomic
def create_project(body: NewProject, owner: User | None) -> tuple[Project, str]:
    """Create a project with its credentials and its first key. Return it with the text of the key."""
    form = body.submit(ProjectForm)
    project = Project.objects.create_with_owner(owner=owner, **form.cleaned_data)
    for field, provider in FIRST_KEYS.items():
        if secret := body.validated_data.get(field):
            store_credential(project, field, provider, secret)
    _, text = ApiKey.objects.issue(project, "first key", scopes=list(FIRST_KEY_SCOPES), created_by=owner)
    return project, text


def store_credential(project: Project, field: str, provider: str, secret: str) -> None:
    """Store a provider's key. Raises InvalidFields, which names the field of the body."""
    data = {"slug": provider, "provider": provider, "secret": secret}
    form = CredentialForm(data, project=project)
    if not form.is_valid():
        name, texts = next(iter(form.errors.items()))
        raise InvalidFields({camel_case(field): [f"{name}: {text}" for text in texts]})
    form.save()
