"""URLs of the dashboard's pages."""

from django.urls import include, path

from gateway_project.dashboard import (
    alerts,
    budgets,
    credentials,
    keys,
    landing,
    models,
    overview,
    prices,
    projects,
    prompt_log,
    requests,
    routes,
    webhooks,
)

project_pages = [
    path("", overview.overview, name="project-overview"),
    path("settings/", projects.project_settings, name="project-settings"),
    path("settings/prompt-log/", prompt_log.prompt_log_settings, name="prompt-log-settings"),
    path("settings/purge-cache/", projects.purge_cache, name="project-settings-purge-cache"),
    path("keys/", keys.key_list, name="key-list"),
    path("keys/new/", keys.key_new, name="key-new"),
    path("keys/<str:public_id>/", keys.key_edit, name="key-edit"),
    path("keys/<str:public_id>/revoke/", keys.key_revoke, name="key-revoke"),
    path("budgets/", budgets.budget_list, name="budget-list"),
    path("budgets/new/", budgets.budget_new, name="budget-new"),
    path("budgets/<int:budget_id>/", budgets.budget_edit, name="budget-edit"),
    path("budgets/<int:budget_id>/delete/", budgets.budget_delete, name="budget-delete"),
    path("prices/", prices.price_list, name="price-list"),
    path("prices/new/", prices.price_new, name="price-new"),
    path("prices/<int:price_id>/end/", prices.price_end, name="price-end"),
    path("alerts/", alerts.alert_list, name="alert-list"),
    path("alerts/webhooks/new/", webhooks.webhook_new, name="webhook-new"),
    path("alerts/webhooks/<int:webhook_id>/test/", webhooks.webhook_test, name="webhook-test"),
    path("alerts/webhooks/<int:webhook_id>/delete/", webhooks.webhook_delete, name="webhook-delete"),
    path("credentials/", credentials.credential_list, name="credential-list"),
    path("credentials/new/", credentials.credential_new, name="credential-new"),
    path("credentials/<int:credential_id>/", credentials.credential_edit, name="credential-edit"),
    path("credentials/<int:credential_id>/test/", credentials.credential_test, name="credential-test"),
    path("credentials/<int:credential_id>/delete/", credentials.credential_delete, name="credential-delete"),
    path("models/", models.model_list, name="model-list"),
    path("routes/", routes.route_list, name="route-list"),
    path("routes/new/", routes.route_new, name="route-new"),
    path("routes/<int:route_id>/", routes.route_edit, name="route-edit"),
    path("routes/<int:route_id>/delete/", routes.route_delete, name="route-delete"),
    path("requests/<uuid:record_id>/", requests.request_detail, name="request-detail"),
]

urlpatterns = [
    path("", landing.landing, name="landing"),
    path("projects/", projects.project_list, name="project-list"),
    path("projects/new/", projects.project_new, name="project-new"),
    path("projects/<slug:slug>/", include(project_pages)),
]
