from django.urls import path

from billing import alert_views, budget_views, views

urlpatterns = [
    path("projects/<slug:slug>/keys/", views.key_list, name="key-list"),
    path("projects/<slug:slug>/keys/new/", views.key_new, name="key-new"),
    path("projects/<slug:slug>/keys/<str:public_id>/", views.key_edit, name="key-edit"),
    path("projects/<slug:slug>/keys/<str:public_id>/revoke/", views.key_revoke, name="key-revoke"),
    path("projects/<slug:slug>/budgets/", budget_views.budget_list, name="budget-list"),
    path("projects/<slug:slug>/budgets/new/", budget_views.budget_new, name="budget-new"),
    path("projects/<slug:slug>/budgets/<int:budget_id>/", budget_views.budget_edit, name="budget-edit"),
    path("projects/<slug:slug>/budgets/<int:budget_id>/delete/", budget_views.budget_delete, name="budget-delete"),
    path("projects/<slug:slug>/alerts/", alert_views.alert_list, name="alert-list"),
    path("projects/<slug:slug>/alerts/webhooks/new/", alert_views.webhook_new, name="alert-webhook-new"),
    path("projects/<slug:slug>/alerts/webhooks/<int:webhook_id>/test/", alert_views.webhook_test, name="alert-webhook-test"),
    path("projects/<slug:slug>/alerts/webhooks/<int:webhook_id>/delete/", alert_views.webhook_delete, name="alert-webhook-delete"),
]
