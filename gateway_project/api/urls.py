"""URLs of the management API.

They come before those of the gateway, which respond to all other paths below `/api`.
"""

from django.urls import path, re_path

from gateway_project.api import (
    audit,
    budgets,
    credentials,
    invitations,
    keys,
    members,
    prices,
    projects,
    requests,
    routes,
    schema,
    tokens,
    usage,
    webhooks,
)
from gateway_project.api.views import NotFoundView

PROJECT = "api/v1/projects/<slug:slug>"

urlpatterns = [
    path("api/schema", schema.schema_view, name="api-schema"),
    path("api/docs", schema.docs_view, name="api-docs"),
    path("api/docs/<str:name>", schema.docs_asset, name="api-docs-asset"),
    path("api/v1/projects", projects.ProjectList.as_view()),
    path("api/v1/projects/api-keys", keys.OwnKeyList.as_view()),
    path(PROJECT, projects.ProjectDetail.as_view()),
    path(f"{PROJECT}/cache", projects.ProjectCache.as_view()),
    path(f"{PROJECT}/keys", keys.KeyList.as_view()),
    path(f"{PROJECT}/keys/<str:public_id>", keys.KeyDetail.as_view()),
    path(f"{PROJECT}/keys/<str:public_id>/rotate", keys.KeyRotation.as_view()),
    path(f"{PROJECT}/credentials", credentials.CredentialList.as_view()),
    path(f"{PROJECT}/credentials/<int:credential_id>", credentials.CredentialDetail.as_view()),
    path(f"{PROJECT}/credentials/<int:credential_id>/test", credentials.CredentialTest.as_view()),
    path(f"{PROJECT}/webhooks", webhooks.WebhookList.as_view()),
    path(f"{PROJECT}/webhooks/<int:webhook_id>", webhooks.WebhookDetail.as_view()),
    path(f"{PROJECT}/webhooks/<int:webhook_id>/test", webhooks.WebhookTest.as_view()),
    path(f"{PROJECT}/alerts", webhooks.AlertList.as_view()),
    path(f"{PROJECT}/prices", prices.PriceList.as_view()),
    path(f"{PROJECT}/prices/<int:price_id>", prices.PriceDetail.as_view()),
    path(f"{PROJECT}/members", members.MemberList.as_view()),
    path(f"{PROJECT}/members/<int:member_id>", members.MemberDetail.as_view()),
    path(f"{PROJECT}/invitations", invitations.InvitationList.as_view()),
    path(f"{PROJECT}/invitations/<int:invitation_id>", invitations.InvitationDetail.as_view()),
    path("api/v1/invitations/accept", invitations.InvitationAcceptance.as_view()),
    path(f"{PROJECT}/audit", audit.AuditLog.as_view()),
    path(f"{PROJECT}/routes", routes.RouteList.as_view()),
    path(f"{PROJECT}/routes/<int:route_id>", routes.RouteDetail.as_view()),
    path(f"{PROJECT}/budgets", budgets.BudgetList.as_view()),
    path(f"{PROJECT}/budgets/<int:budget_id>", budgets.BudgetDetail.as_view()),
    path(f"{PROJECT}/usage", usage.ProjectUsage.as_view()),
    path(f"{PROJECT}/requests", requests.RequestList.as_view()),
    path(f"{PROJECT}/requests/<uuid:record_id>", requests.RequestDetail.as_view()),
    path("api/v1/tokens", tokens.TokenList.as_view()),
    path("api/v1/tokens/<str:token_id>", tokens.TokenDetail.as_view()),
    re_path(r"^api/v1/(?:projects|tokens|invitations)(?:/|$)", NotFoundView.as_view()),
]
