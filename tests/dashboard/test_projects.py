import pytest
from asgiref.sync import async_to_sync
from django.urls import reverse

from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.cache.store import memory_store
from proxy.models import Credential
from tests.proxy.cache.test_store import response
from tests.support.factories import project_pages, record, signed_in
from tests.support.pages import field_error


def test_empty_list_links_to_a_new_project(charlie: User) -> None:
    assert "Create a project" in signed_in(charlie).get("/projects/").content.decode()


def test_list_shows_only_the_users_projects(project: Project, bob: User, charlie: User) -> None:
    Project.objects.create_with_owner("Charlie's", owner=charlie)
    page = signed_in(bob).get("/projects/").content.decode()
    assert "Acme" in page
    assert "Charlie" not in page


def test_creator_owns_the_project(charlie: User) -> None:
    response = signed_in(charlie).post("/projects/new/", {"name": "Robots", "timezone": "Asia/Tokyo"})
    project = Project.objects.get(name="Robots")
    assert response["Location"] == f"/projects/{project.slug}/"
    assert project.timezone == "Asia/Tokyo"
    assert project.memberships.get().role == Role.OWNER
    assert project.memberships.get().user == charlie


def test_new_project_page_lets_the_browser_propose_its_timezone(charlie: User) -> None:
    page = signed_in(charlie).get("/projects/new/").content.decode()
    assert "data-guess-timezone" in page and "guess_timezone" in page


def test_project_slugs_do_not_hide_pages(charlie: User) -> None:
    signed_in(charlie).post("/projects/new/", {"name": "New", "timezone": "UTC"})
    assert Project.objects.get(name="New").slug != "new"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 81),
        ("timezone", "Mars/Olympus"),
        ("timezone", "localtime"),
        ("timezone", ""),
    ],
)
def test_invalid_entry_shows_a_field_error(charlie: User, field: str, value: str) -> None:
    page = (
        signed_in(charlie)
        .post("/projects/new/", {"name": "Robots", "timezone": "UTC", field: value})
        .content.decode()
    )
    assert f'id="id_{field}_error"' in page
    assert not Project.objects.filter(name="Robots").exists()


@pytest.mark.parametrize("page", ["new", "settings"])
def test_tenants_cannot_enable_operator_credentials(page: str, project: Project, alice: User) -> None:
    address = "/projects/new/" if page == "new" else reverse("project-settings", args=[project.slug])
    signed_in(alice).post(
        address, {"name": "Robots", "timezone": "UTC", "uses_operator_credentials": "on", "slug": "taken"}
    )
    changed = Project.objects.get(name="Robots")
    assert not changed.uses_operator_credentials
    assert changed.slug != "taken"


def test_settings_are_saved(project: Project, alice: User) -> None:
    signed_in(alice).post(
        reverse("project-settings", args=[project.slug]), {"name": "Acme Europe", "timezone": "Europe/Berlin"}
    )
    project.refresh_from_db()
    assert (project.name, project.timezone) == ("Acme Europe", "Europe/Berlin")


def test_an_invalid_form_does_not_change_the_page_title(project: Project, alice: User) -> None:
    page = (
        signed_in(alice)
        .post(reverse("project-settings", args=[project.slug]), {"name": "Refused", "timezone": "Mars"})
        .content.decode()
    )
    assert "<title>Settings · Acme · AI Gateway</title>" in page


def test_user_input_is_escaped(project: Project, alice: User) -> None:
    Project.objects.update(name="<script>alert(1)</script>")
    key, _ = ApiKey.objects.issue(project, "<img src=x onerror=alert(1)>")
    record(key, model="<b>bold</b>")
    client = signed_in(alice)
    for name in ("project-overview", "key-list", "project-settings"):
        page = client.get(reverse(name, args=[project.slug])).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>bold" not in page


def test_every_project_page_is_marked_in_the_navigation(
    busy_project: Project, key: ApiKey, credential: Credential, alice: User
) -> None:
    client = signed_in(alice)
    pages = {
        name: client.get(address).content.decode()
        for name, (address, _) in project_pages(busy_project, key, credential).items()
    }
    assert {name: page.count('aria-current="page"') for name, page in pages.items()} == dict.fromkeys(
        pages, 1
    )
    assert "Overview" in pages["request-detail"].split('aria-current="page"')[1].split("</a>")[0]


def test_settings_include_rate_limits_and_timezone(project: Project, alice: User) -> None:
    fields = {
        "name": "Acme",
        "timezone": "Asia/Kathmandu",
        "rpm_limit": "600",
        "tpm_limit": "",
        "concurrency_limit": "20",
    }
    signed_in(alice).post(reverse("project-settings", args=[project.slug]), fields)
    project.refresh_from_db()
    assert (project.timezone, project.rpm_limit, project.tpm_limit, project.concurrency_limit) == (
        "Asia/Kathmandu",
        600,
        None,
        20,
    )


def test_unknown_timezone_is_rejected(project: Project, alice: User) -> None:
    refused = signed_in(alice).post(
        reverse("project-settings", args=[project.slug]), {"name": "Acme", "timezone": "Mars/Olympus"}
    )
    assert "Mars/Olympus is not an IANA timezone." in field_error(refused, "timezone")


def test_settings_switch_the_response_cache_on(project: Project, alice: User) -> None:
    fields = {"name": "Acme", "timezone": "UTC", "caches_responses": "on", "cache_ttl_s": "600"}
    address = reverse("project-settings", args=[project.slug])
    signed_in(alice).post(address, fields)
    project.refresh_from_db()
    assert (project.caches_responses, project.cache_ttl_s) == (True, 600)
    page = signed_in(alice).post(address, fields | {"cache_ttl_s": "59"}).content.decode()
    assert "greater than or equal to 60" in page


def test_settings_list_the_origins_of_web_pages(project: Project, alice: User) -> None:
    fields = {"name": "Acme", "timezone": "UTC", "cache_ttl_s": "600"}
    address = reverse("project-settings", args=[project.slug])
    lines = "HTTPS://App.example.org/\n\nhttp://localhost:5173\n"
    signed_in(alice).post(address, fields | {"allowed_origins": lines})
    project.refresh_from_db()
    assert project.allowed_origins == ["https://app.example.org", "http://localhost:5173"]
    assert "https://app.example.org\nhttp://localhost:5173" in signed_in(alice).get(address).content.decode()
    refused = signed_in(alice).post(address, fields | {"allowed_origins": "https://app.example.org/chat"})
    assert "is not an origin" in field_error(refused, "allowed_origins")


async def purged(project: Project) -> bool:
    return await memory_store.get(project.pk, "key") is None


def test_the_cache_is_purged_after_a_confirmation(project: Project, alice: User) -> None:
    async_to_sync(memory_store.put)(project.pk, "key", response())
    address = reverse("project-settings-purge-cache", args=[project.slug])
    assert "Purge the response cache?" in signed_in(alice).get(address).content.decode()
    assert not async_to_sync(purged)(project)
    answer = signed_in(alice).post(address, follow=True)
    assert "The response cache is empty." in answer.content.decode() and async_to_sync(purged)(project)


def test_an_admin_decides_whether_callers_may_send_provider_keys(project: Project, alice: User) -> None:
    client, address = signed_in(alice), reverse("project-settings", args=[project.slug])
    assert "callers may send their own provider key" in client.get(address).content.decode().lower()
    for sent, stored in (({"accepts_provider_keys": "on"}, True), ({}, False)):
        client.post(address, {"name": "Acme", "timezone": "UTC", **sent})
        project.refresh_from_db()
        assert project.accepts_provider_keys is stored
