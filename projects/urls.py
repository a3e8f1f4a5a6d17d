from django.urls import path

from projects import views

urlpatterns = [
    path("", views.landing, name="landing"),
    path("projects/", views.project_list, name="project-list"),
    path("projects/new/", views.project_new, name="project-new"),
    path("projects/<slug:slug>/settings/", views.project_settings, name="project-settings"),
]
