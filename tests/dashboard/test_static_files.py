"""Static files: one stylesheet for all pages, and hashed names that are cached for years."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.templatetags.static import static
from django.test import Client, override_settings
from pytest_django import Settings

from gateway_project.dashboard import static_files

SOURCES = Path(django_settings.BASE_DIR) / "static"
HASHED_STYLESHEET = re.compile(r"/static/css/app\.[0-9a-f]{12}\.css")


@pytest.fixture
def static_root(settings: Settings, tmp_path: Path) -> Path:
    settings.STATIC_ROOT = tmp_path / "static"
    return tmp_path / "static"


@pytest.fixture(scope="module")
def collected_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collect the files once for all tests that do not change them."""
    root = tmp_path_factory.mktemp("collected") / "static"
    with override_settings(STATIC_ROOT=root):
        static_files.collect_if_changed()
    return root


@pytest.fixture
def collected(settings: Settings, collected_files: Path) -> None:
    settings.STATIC_ROOT = collected_files


def content_of(client: Client, url: str) -> str:
    response: Any = client.get(url)
    assert response.status_code == 200
    return b"".join(response).decode()


def test_stylesheet_imports_every_part_once() -> None:
    imports = static_files.IMPORT.findall((SOURCES / static_files.STYLESHEET).read_text())
    parts = [str(path.relative_to(SOURCES / "css")) for path in SOURCES.glob("css/**/*.css")]
    assert sorted([*imports, "app.css"]) == sorted(parts)


def test_a_page_links_one_stylesheet(client: Client, db: None) -> None:
    page = client.get("/").content.decode()
    assert re.findall(r'<link rel="stylesheet" href="([^"]+)">', page) == ["/static/css/app.css"]


def test_source_files_are_served_until_they_are_collected(client: Client, static_root: Path) -> None:
    assert static("css/app.css") == "/static/css/app.css"
    assert '@import url("tokens.css");' in content_of(client, "/static/css/app.css")
    assert not static_root.exists()


@pytest.mark.usefixtures("collected")
def test_collected_stylesheet_holds_its_parts_in_order() -> None:
    url = static("css/app.css")
    assert HASHED_STYLESHEET.fullmatch(url)
    content = content_of(Client(), url)
    assert "@import" not in content
    assert content.index("@layer reset, base") < content.index(":root") < content.index(".landing {")


@pytest.mark.usefixtures("collected")
def test_hashed_files_are_immutable() -> None:
    client = Client()
    for name in ("css/app.css", "js/menu.js", "img/icons.svg", "admin/css/base.css"):
        response = client.get(static(name))
        assert response.status_code == 200
        found = re.fullmatch(r"max-age=(\d+), public, immutable", response["Cache-Control"])
        assert found and int(found[1]) >= 31_536_000


def test_the_collectstatic_command_collects_as_the_start_does(static_root: Path) -> None:
    call_command("collectstatic", interactive=False, verbosity=0)
    assert static_files.is_collected()
    assert HASHED_STYLESHEET.fullmatch(static("css/app.css"))


@pytest.mark.usefixtures("collected")
def test_files_are_collected_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_files, "call_command", pytest.fail)
    static_files.collect_if_changed()


@pytest.mark.usefixtures("collected")
def test_collected_files_of_another_version_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_files, "source_fingerprint", lambda: "another version")
    assert static_files.StaticFilesStorage().url("css/app.css") == "/static/css/app.css"


def test_a_directory_that_cannot_be_written_serves_the_sources(static_root: Path) -> None:
    static_root.write_text("a file where the directory should be")
    static_files.collect_if_changed()
    assert static("css/app.css") == "/static/css/app.css"
