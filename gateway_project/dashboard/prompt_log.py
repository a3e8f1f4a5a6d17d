"""The page with the settings of a project's prompt log."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.models import PromptLogSettings
from proxy.prompt_log.forms import PromptLogForm


@project_view(Role.ADMIN)
def prompt_log_settings(request: ProjectRequest, project: Project) -> HttpResponse:
    stored = PromptLogSettings.objects.filter(project=project).first()
    form = PromptLogForm(request.POST or None, instance=stored or PromptLogSettings(project=project))
    if form.is_valid():
        form.save()
        messages.success(request, "Settings of the prompt log saved. They take effect within a second.")
        return redirect("prompt-log-settings", project.slug)
    return render(request, "prompt_log/settings.html", {"form": form})
