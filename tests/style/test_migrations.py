"""The check of migrations finds each operation that locks a large table or breaks the earlier release."""

from pathlib import Path

import pytest

from tests.style.migrations import check

HEAD = "class Migration(migrations.Migration):\n    operations = [\n"
INDEX = "index=models.Index(fields=['day'], name='by_day')"


def findings(path: Path, operation: str, head: str = HEAD) -> list[str]:
    path.write_text(f"{head}        {operation},\n    ]\n")
    return [finding.message for finding in check(path)]


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (f"migrations.AddIndex(model_name='usagerecord', {INDEX})", "AddIndexOnline"),
        (
            "migrations.AlterField('x', model_name='UsageRecord', name='day', field=models.TextField())",
            "new column",
        ),
        ("migrations.AddConstraint(model_name='promptlogentry', constraint=c)", "NOT VALID"),
        (
            "migrations.AddField(model_name='project', name='a', field=models.IntegerField(default=1))",
            "db_default",
        ),
        (
            "migrations.AddField(model_name='project', name='a', field=models.TextField(null=False))",
            "null=True",
        ),
        ("migrations.RenameField(model_name='project', old_name='a', new_name='b')", "old name"),
        ("migrations.RemoveField(model_name='project', name='a')", "one release later"),
        ("migrations.DeleteModel(name='Webhook')", "one release later"),
    ],
)
def test_an_unsafe_operation_is_found(tmp_path: Path, operation: str, text: str) -> None:
    path = tmp_path / "0002_change.py"
    [message] = findings(path, operation)
    assert text in message
    assert findings(path, f"# checked: the table is empty\n        {operation}") == []
    assert findings(path, operation, "class Migration(M):\n    initial = True\n    operations = [\n") == []


@pytest.mark.parametrize(
    "operation",
    [
        f"AddIndexOnline(model_name='usagerecord', {INDEX})",
        f"migrations.AddIndex(model_name='budget', {INDEX})",
        "migrations.AddField(model_name='usagerecord', name='a', field=models.TextField(null=True))",
        "migrations.AddField(model_name='usagerecord', name='a', field=models.IntegerField(db_default=0))",
        "migrations.AddField(model_name='budget', name='a', field=models.ManyToManyField(to='b'))",
        "migrations.AlterField(model_name='budget', name='a', field=models.TextField())",
        "migrations.CreateModel(name='Thing', fields=[])",
        "migrations.RunPython(fill)",
    ],
)
def test_a_safe_operation_is_accepted(tmp_path: Path, operation: str) -> None:
    assert findings(tmp_path / "0002_change.py", operation) == []
