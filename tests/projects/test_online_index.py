"""An index is added and removed without a lock: in no transaction, and concurrently on PostgreSQL."""

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

from projects.db.online_index import AddIndexOnline

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


def index_names() -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, "projects_project"))


def test_an_index_is_added_and_removed_online() -> None:
    operation = AddIndexOnline("project", models.Index(fields=["timezone"], name="project_by_timezone"))
    before = ProjectState.from_apps(apps)
    after = before.clone()
    operation.state_forwards("projects", after)
    with CaptureQueriesContext(connection) as captured, connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("projects", editor, before, after)
    assert "project_by_timezone" in index_names()
    is_concurrent = any("CONCURRENTLY" in query["sql"] for query in captured)
    assert is_concurrent == (connection.vendor == "postgresql")
    with connection.schema_editor(atomic=False) as editor:
        operation.database_backwards("projects", editor, after, before)
    assert "project_by_timezone" not in index_names()
