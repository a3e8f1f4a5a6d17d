from django.urls import path

from proxy import pages, price_pages

urlpatterns = [
    path("projects/<slug:slug>/", pages.overview, name="project-overview"),
    path("projects/<slug:slug>/records/<uuid:record_id>/", price_pages.request_detail, name="record-detail"),
    path("projects/<slug:slug>/prices/", price_pages.price_list, name="price-list"),
    path("projects/<slug:slug>/prices/new/", price_pages.price_create, name="price-new"),
    path("projects/<slug:slug>/prices/<int:price_id>/end/", price_pages.price_end, name="price-end"),
    path("projects/<slug:slug>/credentials/", pages.credential_list, name="credential-list"),
    path("projects/<slug:slug>/credentials/new/", pages.credential_create, name="credential-new"),
    path("projects/<slug:slug>/credentials/<int:credential_id>/", pages.credential_edit, name="credential-edit"),
    path("projects/<slug:slug>/credentials/<int:credential_id>/delete/", pages.credential_delete, name="credential-delete"),
]
