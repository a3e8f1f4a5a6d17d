from django.urls import path

from proxy import pages

urlpatterns = [
    path("projects/<slug:slug>/", pages.overview, name="project-overview"),
    path("projects/<slug:slug>/credentials/", pages.credential_list, name="credential-list"),
    path("projects/<slug:slug>/credentials/new/", pages.credential_new, name="credential-new"),
    path("projects/<slug:slug>/credentials/<int:pk>/", pages.credential_edit, name="credential-edit"),
    path("projects/<slug:slug>/credentials/<int:pk>/delete/", pages.credential_delete, name="credential-delete"),
]
