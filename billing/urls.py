from django.urls import path

from billing import views

urlpatterns = [
    path("projects/<slug:slug>/keys/", views.key_list, name="key-list"),
    path("projects/<slug:slug>/keys/new/", views.key_new, name="key-new"),
    path("projects/<slug:slug>/keys/<str:public_id>/revoke/", views.key_revoke, name="key-revoke"),
]
