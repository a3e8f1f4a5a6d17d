"""Addresses of the pages that people see."""

from django.urls import path

from gateway_project.dashboard import alerts, budgets, keys, overview, prices, projects

urlpatterns = [
    path("", projects.landing, name="landing"),
    path("projects/", projects.project_list, name="project-list"),
    path("projects/new/", projects.project_new, name="project-new"),
    path("projects/<slug:slug>/", overview.overview, name="project-overview"),
    path("projects/<slug:slug>/settings/", projects.project_settings, name="project-settings"),
    path("projects/<slug:slug>/keys/", keys.key_list, name="key-list"),
    path("projects/<slug:slug>/keys/new/", keys.key_new, name="key-new"),
    path("projects/<slug:slug>/keys/<str:public_id>/", keys.key_edit, name="key-edit"),
    path("projects/<slug:slug>/keys/<str:public_id>/revoke/", keys.key_revoke, name="key-revoke"),
    path("projects/<slug:slug>/budgets/", budgets.budget_list, name="budget-list"),
    path("projects/<slug:slug>/budgets/new/", budgets.budget_new, name="budget-new"),
    path("projects/<slug:slug>/budgets/<int:budget_id>/", budgets.budget_edit, name="budget-edit"),
    path("projects/<slug:slug>/budgets/<int:budget_id>/delete/", budgets.budget_delete, name="budget-delete"),
    path("projects/<slug:slug>/alerts/", alerts.alert_list, name="alert-list"),
    path("projects/<slug:slug>/alerts/webhooks/new/", alerts.webhook_new, name="webhook-new"),
    path(
        "projects/<slug:slug>/alerts/webhooks/<int:webhook_id>/test/",
        alerts.webhook_test,
        name="webhook-test",
    ),
    path(
        "projects/<slug:slug>/alerts/webhooks/<int:webhook_id>/delete/",
        alerts.webhook_delete,
        name="webhook-delete",
    ),
    path("projects/<slug:slug>/requests/<uuid:record_id>/", prices.request_detail, name="request-detail"),
    path("projects/<slug:slug>/prices/", prices.price_list, name="price-list"),
    path("projects/<slug:slug>/prices/new/", prices.price_create, name="price-new"),
    path("projects/<slug:slug>/prices/<int:price_id>/end/", prices.price_end, name="price-end"),
    path("projects/<slug:slug>/credentials/", overview.credential_list, name="credential-list"),
    path("projects/<slug:slug>/credentials/new/", overview.credential_create, name="credential-new"),
    path(
        "projects/<slug:slug>/credentials/<int:credential_id>/",
        overview.credential_edit,
        name="credential-edit",
    ),
    path(
        "projects/<slug:slug>/credentials/<int:credential_id>/delete/",
        overview.credential_delete,
        name="credential-delete",
    ),
]
