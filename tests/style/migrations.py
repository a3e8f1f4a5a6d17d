"""Rules of migrations: none may lock a large table, or break the processes of the earlier release.

During a rolling upgrade, migrations run while processes of the earlier release serve requests. Initial
migrations are exempt, because their tables are empty. A comment `# checked: reason` in the line before an
operation exempts it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding

LARGE_TABLES = frozenset(
    "usagerecord archivedusage dailyusage promptlogentry promptloguser issuedid reservation".split()
)
"""Models whose tables can have millions of rows, or are written by every request."""
EXEMPTION = "# checked: "
ONLINE = "write AddIndexOnline of projects.db.online_index, in a migration with atomic = False"
LOCKING = {
    "AddIndex": f"it blocks writes while the index is built; {ONLINE}",
    "AlterField": "a change of type or of NULL rewrites or reads the table under a lock; add a new column",
    "AddConstraint": "it reads the table under a lock; add it by RunSQL as NOT VALID, and validate it later",
    "AlterUniqueTogether": "it builds an index under a lock",
    "AlterIndexTogether": "it builds an index under a lock",
}
"""Operations that lock a large table."""
BREAKING = {
    "RenameField": "processes of the earlier release use the old name; add a column instead",
    "RenameModel": "processes of the earlier release use the old name",
    "RemoveField": "processes of the earlier release may use the column; remove it one release later",
    "DeleteModel": "processes of the earlier release may use the table; delete it one release later",
}
"""Operations that break the processes of the earlier release, on any table."""


def check(path: Path) -> Iterator[Finding]:
    text = path.read_text()
    tree, lines = ast.parse(text), text.splitlines()
    if is_initial(tree):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or lines[node.lineno - 2].strip().startswith(EXEMPTION):
            continue
        if problem := problem_of(operation(node), keywords(node)):
            yield Finding(path, node.lineno, f"{operation(node)}: {problem}")


def is_initial(tree: ast.Module) -> bool:
    """Return whether a migration sets `initial = True`."""
    names = (
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    )
    return "initial" in names


def operation(node: ast.Call) -> str:
    """Return the name of a called class, without its module."""
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def keywords(node: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}


def problem_of(name: str, arguments: dict[str, ast.expr]) -> str:
    """Return what is wrong with an operation; empty if nothing is."""
    if name in BREAKING:
        return BREAKING[name]
    if name == "AddField" and isinstance(field := arguments.get("field"), ast.Call):
        return (
            ""
            if is_optional(field)
            else "inserts of the earlier release omit it; add null=True or db_default"
        )
    model = arguments.get("model_name", arguments.get("name"))
    is_large = isinstance(model, ast.Constant) and str(model.value).lower() in LARGE_TABLES
    return LOCKING.get(name, "") if is_large else ""


def is_optional(field: ast.Call) -> bool:
    """Return whether an insert can omit a column."""
    options = keywords(field)
    null = options.get("null")
    is_null = isinstance(null, ast.Constant) and null.value is True
    return is_null or "db_default" in options or operation(field) == "ManyToManyField"
