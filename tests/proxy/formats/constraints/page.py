"""The page `docs/vendor-constraints.md`, written from the table.

`python -m tests.proxy.formats.constraints.page` writes it.
"""

from pathlib import Path

from proxy.formats.constraints.constraint import Action, Constraint, Rule
from proxy.formats.constraints.table import CONSTRAINTS, SECTIONS
from proxy.providers.catalog import PROVIDERS

PAGE = Path(__file__).parents[4] / "docs" / "vendor-constraints.md"
FORMATS = {
    "openai_chat": "Chat Completions",
    "openai_responses": "Responses",
    "anthropic": "Messages",
    "gemini": "Gemini",
}
ACTIONS: dict[Action, str] = {
    "hash": "hashes it",
    "shorten": "shortens it",
    "drop": "drops it",
    "lower": "lowers it",
    "raise": "raises it",
    "rewrite": "rewrites it",
    "instruct": "asks for it in the prompt",
}
NOT_NAMED = "–"
CHANGED_SCHEMA = "`tools.schema;changed=rewritten` if a rule is only in a description now"
RULES: dict[Rule, tuple[str, str, str]] = {
    "user": (
        "`maximum` characters that match `pattern`",
        "The identifier of the end user is replaced by its SHA-256, which is the same in every request.",
        "`user;changed=hashed`",
    ),
    "metadata": (
        "`maximum` pairs",
        "No conversion sends `metadata`: it is a setting of the vendor that the client addresses.",
        "`metadata`",
    ),
    "max_tokens": (
        "`maximum` tokens",
        "The limit is lowered to the model's before its cost is reserved.",
        "`max_tokens;changed=lowered`",
    ),
    "max_tokens_without_stream": (
        "`maximum` tokens",
        "The same, for requests that are not streamed.",
        "`max_tokens;changed=lowered`",
    ),
    "min_tokens": (
        "`minimum` tokens",
        "The limit is raised. A budget does not lower it further either: it denies the request.",
        "`max_tokens;changed=raised`",
    ),
    "thinking_budget": (
        "`minimum` to `maximum` tokens",
        "The budget is lowered, so that tokens for an answer are left. Anthropic gets no budget if the "
        "client's limit leaves no room for the least one.",
        "`reasoning;changed=lowered`, or `reasoning`",
    ),
    "range": (
        "`minimum` to `maximum`, for the settings in `names`",
        "A value out of range becomes the nearest one in range.",
        "the setting with `;changed=lowered` or `;changed=raised`",
    ),
    "seed": (
        "`minimum` to `maximum`",
        "Another seed takes its place, the same for the same seed.",
        "`seed;changed=rewritten`",
    ),
    "stop_count": ("`maximum` sequences", "The first ones are kept.", "`stop`"),
    "blank_stop": (NOT_NAMED, "Sequences of white space alone are dropped.", "`stop`"),
    "unsupported_settings": ("`names` of settings", "The settings are dropped.", "the setting"),
    "sampling": (
        "`names` of settings",
        "The settings are dropped, unless the client turns reasoning off.",
        "the setting, unless its value is the one that every model has",
    ),
    "exclusive": (
        "`names` of settings",
        "One is dropped if all are set: one whose value every model has, else the last.",
        "the setting, unless its value is the one that every model has",
    ),
    "thinking_sampling": (
        "`names` of settings",
        "The settings are dropped from requests with thinking.",
        "the setting",
    ),
    "efforts": (
        "`names` of efforts",
        "The nearest effort is sent; of two as near, the higher one.",
        NOT_NAMED,
    ),
    "format_with_tools": (
        NOT_NAMED,
        "The system prompt asks for JSON, with the schema, in place of the format.",
        "`response_format`",
    ),
    "format_top_type": ("`names` of keywords", "The same.", "`response_format`"),
    "json_word": (NOT_NAMED, "The system prompt asks for JSON.", NOT_NAMED),
    "tool_name": (
        "`maximum` characters that match `pattern`",
        "A shorter name that ends with a hash takes its place in tools, tool choice and history. The client "
        "gets its own name back.",
        NOT_NAMED,
    ),
    "tool_count": (
        "`maximum` tools",
        "The tools that the tool choice names are kept, then the first.",
        "`tools`",
    ),
    "unique_tool_names": (NOT_NAMED, "The first tool of each name is kept.", "`tools`"),
    "tool_description": (
        "`maximum` characters",
        "The description is cut; the system prompt holds it whole.",
        "`tools.description;changed=shortened`",
    ),
    "strict_subset": (
        NOT_NAMED,
        "`strict` is dropped for this schema. The model still sees the schema.",
        "`strict`",
    ),
    "strict_limits": (
        "`maximum` strict tools",
        "`strict` is dropped for the tools beyond the limits; a format of the response is asked for.",
        "`strict`, `response_format`",
    ),
    "top_level_keywords": (
        "`names` of keywords",
        "The properties of the branches are merged; what is lost is in the description.",
        CHANGED_SCHEMA,
    ),
    "top_level_type": (
        NOT_NAMED,
        "The schema becomes the only property of an object. The client gets the arguments without it.",
        NOT_NAMED,
    ),
    "schema_draft": (NOT_NAMED, "The schema is rewritten as JSON Schema 2020-12.", NOT_NAMED),
    "object_properties": (NOT_NAMED, "Empty `properties` are added, at every depth.", NOT_NAMED),
    "array_items": (NOT_NAMED, "`items` that allow anything are added, at every depth.", NOT_NAMED),
    "property_keys": (
        "`maximum` characters that match `pattern`",
        "Names that end with a hash take their place in schemas and history. The client gets its own names "
        "back.",
        NOT_NAMED,
    ),
    "lone_reference": (NOT_NAMED, "The definition takes the place of the reference.", NOT_NAMED),
    "forced_tool_choice": (NOT_NAMED, "The system prompt asks for a call of these tools.", "`tool_choice`"),
    "tools_by_responses": (
        NOT_NAMED,
        "The request goes by the Responses API if the account has it, else without reasoning.",
        "`reasoning`, if it is turned off",
    ),
    "tools_needed": (
        "`names` of settings",
        "The settings are dropped, and an empty list of tools too.",
        "`tool_choice`, if it required a call",
    ),
    "call_id": (
        "`maximum` characters that match `pattern`",
        "A hash takes its place in the call and in its result.",
        NOT_NAMED,
    ),
    "message_fields": (
        "`names` of fields",
        "The fields are left out of earlier messages. Requests that pass through lose those that carry "
        "thinking or signatures.",
        NOT_NAMED,
    ),
    "earlier_thinking": (
        NOT_NAMED,
        "The text of earlier thinking is returned, of any vendor; a space if there is none.",
        NOT_NAMED,
    ),
    "media_type": (NOT_NAMED, "Images get the type that their first bytes have.", NOT_NAMED),
    "base64": (NOT_NAMED, "The data is encoded again.", NOT_NAMED),
    "blank_text": (NOT_NAMED, "Texts of white space alone are left out.", NOT_NAMED),
    "cache_breakpoints": (
        "`maximum` marks",
        "The last marks are kept: a later one covers the earlier.",
        "`cache`",
    ),
    "last_role": (
        NOT_NAMED,
        "A message of the user follows, which asks to go on.",
        "`messages;changed=rewritten`",
    ),
    "user_after_tool": (
        NOT_NAMED,
        "A message of the assistant is put between them.",
        "`messages;changed=rewritten`",
    ),
}
INTRODUCTION = """# What vendors reject

<!-- `python -m tests.proxy.formats.constraints.page` writes this page from the table in
`proxy/formats/constraints/`. -->

Each vendor rejects requests that another one accepts. The gateway changes a request that it converts until
its destination accepts it, and names in the response header `x-gateway-dropped` what it left out or changed
([api.md](api.md#what-the-gateway-leaves-out-or-changes)). Requests in the format of their provider pass as
the client sent them; only what the gateway itself put into their history is taken out.

The table is data, in `proxy/formats/constraints/rows/`. A row applies to formats, to providers (all if it
names none), and to models whose name its regular expression finds. Rows for some vendors or models stand
before those for all: of most rules the first row applies. To add a constraint, add a row of a known rule with
its source and its date. A new rule also needs a step in `adaptation.py` and a check in
`tests/support/vendor_checker/`, which reads every recorded and generated request in the tests.

## Rules

| rule | limits of its rows | what the gateway does | in `x-gateway-dropped` |
|---|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    rules = "\n".join(f"| `{rule}` | {' | '.join(texts)} |" for rule, texts in RULES.items())
    sections = "\n\n".join(section(title, rows) for title, rows in SECTIONS.items())
    return f"{INTRODUCTION}{rules}\n\n{sections}\n"


def section(title: str, rows: tuple[Constraint, ...]) -> str:
    lines = [
        f"## {title}",
        "",
        "| row | rule | applies to | rejected | the gateway | source |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(line, rows)])


def line(row: Constraint) -> str:
    columns = (f"`{row.id}`", f"`{row.rule}`", scope(row), row.rejected, ACTIONS[row.action], source(row))
    return f"| {' | '.join(escaped(column) for column in columns)} |"


def scope(row: Constraint) -> str:
    """Return the formats, providers and models of a row."""
    formats = (
        "all formats"
        if len(row.formats) == len(FORMATS)
        else ", ".join(FORMATS[format] for format in row.formats)
    )
    providers = f" at {', '.join(PROVIDERS[slug].name for slug in row.providers)}" if row.providers else ""
    return f"{formats}{providers}" + (f", models `{row.models}`" if row.models else "")


def source(row: Constraint) -> str:
    host = row.source.split("/")[2].removeprefix("www.")
    return f"[{host}]({row.source}), {row.stated}"


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{len(CONSTRAINTS)} rows are in {PAGE.name}.")
