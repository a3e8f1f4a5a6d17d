"""Generator of the page `docs/vendor-constraints.md` from the table of constraints.

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
CHANGED_SCHEMA = "`tools.schema;changed=rewritten`, if a rule is now only in a description"
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
        "The limit is lowered to the model's maximum before the cost is reserved.",
        "`max_tokens;changed=lowered`",
    ),
    "max_tokens_without_stream": (
        "`maximum` tokens",
        "As in the row above, but only for requests that are not streamed.",
        "`max_tokens;changed=lowered`",
    ),
    "min_tokens": (
        "`minimum` tokens",
        "The limit is raised. If a budget does not cover this limit, it denies the request.",
        "`max_tokens;changed=raised`",
    ),
    "thinking_budget": (
        "`minimum` to `maximum` tokens",
        "The budget is lowered, so that tokens for an answer remain. If the client's output limit leaves no "
        "room for Anthropic's minimum budget, the request gets no budget.",
        "`reasoning;changed=lowered`, or `reasoning`",
    ),
    "range": (
        "`minimum` to `maximum`, for the settings in `names`",
        "A value out of range becomes the nearest one in range.",
        "the setting with `;changed=lowered` or `;changed=raised`",
    ),
    "seed": (
        "`minimum` to `maximum`",
        "The seed is replaced. Equal seeds get equal replacements.",
        "`seed;changed=rewritten`",
    ),
    "stop_count": ("`maximum` sequences", "The first ones are kept.", "`stop`"),
    "blank_stop": (NOT_NAMED, "Sequences that are only white space are dropped.", "`stop`"),
    "unsupported_settings": ("`names` of settings", "The settings are dropped.", "the setting"),
    "sampling": (
        "`names` of settings",
        "The settings are dropped, unless the client turns reasoning off.",
        "the setting, unless its value is the default of every model",
    ),
    "exclusive": (
        "`names` of settings",
        "If all are set, one is dropped: a setting with the default value of every model, else the last.",
        "the setting, unless its value is the default of every model",
    ),
    "thinking_sampling": (
        "`names` of settings",
        "The settings are dropped from requests with thinking.",
        "the setting",
    ),
    "efforts": (
        "`names` of efforts",
        "The nearest effort is sent. Of two that are equally near, the higher one is sent.",
        "`reasoning;changed=lowered` or `reasoning;changed=raised`, if the client chose an effort",
    ),
    "format_with_tools": (
        NOT_NAMED,
        "The system prompt asks for JSON that matches the schema. The setting is dropped.",
        "`response_format`",
    ),
    "format_top_type": ("`names` of keywords", "As in the row above.", "`response_format`"),
    "json_word": (NOT_NAMED, "The system prompt asks for JSON.", NOT_NAMED),
    "tool_name": (
        "`maximum` characters that match `pattern`",
        "The name is replaced in tools, tool choice and history by a name that ends with a hash. Responses "
        "contain the client's name.",
        NOT_NAMED,
    ),
    "tool_count": (
        "`maximum` tools",
        "The tools that the tool choice names are kept, then the first ones of the others.",
        "`tools`",
    ),
    "unique_tool_names": (NOT_NAMED, "The first tool of each name is kept.", "`tools`"),
    "tool_description": (
        "`maximum` characters",
        "The description is shortened. The system prompt gets the complete description.",
        "`tools.description;changed=shortened`",
    ),
    "strict_subset": (
        NOT_NAMED,
        "`strict` is dropped for this schema. The model still sees the schema.",
        "`strict`",
    ),
    "strict_limits": (
        "`maximum` strict tools",
        "`strict` is dropped for the tools beyond the limits. The system prompt asks for a response format.",
        "`strict`, `response_format`",
    ),
    "top_level_keywords": (
        "`names` of keywords",
        "The properties of the branches are merged. Rules that are lost are stated in the description.",
        CHANGED_SCHEMA,
    ),
    "top_level_type": (
        NOT_NAMED,
        "The schema becomes the only property of an object. The client gets the arguments without it.",
        NOT_NAMED,
    ),
    "schema_draft": (NOT_NAMED, "The schema is rewritten as JSON Schema 2020-12.", NOT_NAMED),
    "object_properties": (NOT_NAMED, "Empty `properties` are added at every depth.", NOT_NAMED),
    "array_items": (NOT_NAMED, "`items` that allow anything are added at every depth.", NOT_NAMED),
    "property_keys": (
        "`maximum` characters that match `pattern`",
        "The names are replaced in schemas and history by names that end with a hash. Responses contain the "
        "client's names.",
        NOT_NAMED,
    ),
    "lone_reference": (NOT_NAMED, "The reference is replaced by its definition.", NOT_NAMED),
    "forced_tool_choice": (
        NOT_NAMED,
        "The system prompt asks for a call of one of these tools.",
        "`tool_choice`",
    ),
    "tools_by_responses": (
        NOT_NAMED,
        "If the client asks for an effort, or the model always reasons, the request is sent to the Responses "
        "API, if the account has it. Else reasoning is turned off.",
        "`reasoning`, if the client asked for it and it is turned off",
    ),
    "tools_needed": (
        "`names` of settings",
        "The settings are dropped, and so is an empty list of tools.",
        "`tool_choice`, if it required a call",
    ),
    "call_id": (
        "`maximum` characters that match `pattern`",
        "The id is replaced in the call and in its result by an id that contains a hash.",
        NOT_NAMED,
    ),
    "message_fields": (
        "`names` of fields",
        "The fields are left out of earlier messages. Only fields with thinking "
        "or signatures are removed from passed-through requests.",
        NOT_NAMED,
    ),
    "earlier_thinking": (
        NOT_NAMED,
        "The text of earlier thinking of any vendor is returned. If there is none, a space is sent. Requests "
        "that are passed through get the space before tool calls.",
        NOT_NAMED,
    ),
    "media_type": (NOT_NAMED, "Images get the media type that their first bytes show.", NOT_NAMED),
    "base64": (NOT_NAMED, "The data is encoded again.", NOT_NAMED),
    "blank_text": (NOT_NAMED, "Texts that are only white space are left out.", NOT_NAMED),
    "empty_content": (NOT_NAMED, "Messages without content are left out.", NOT_NAMED),
    "cache_breakpoints": (
        "`maximum` breakpoints",
        "The last breakpoints are kept: a later one includes the content of the earlier ones.",
        "`cache`",
    ),
    "last_role": (
        NOT_NAMED,
        "A user message that asks to continue is added at the end.",
        "`messages;changed=rewritten`",
    ),
    "user_after_tool": (
        NOT_NAMED,
        "An assistant message is added between them.",
        "`messages;changed=rewritten`",
    ),
}
INTRODUCTION = """# What vendors reject

<!-- `python -m tests.proxy.formats.constraints.page` writes this page from the table in
`proxy/formats/constraints/`. -->

Vendors reject requests that other vendors accept. If the gateway converts a request, it also changes the
request so that the destination accepts it. The response header `x-gateway-dropped` names what was left out or
changed ([api.md](api.md#what-the-gateway-leaves-out-or-changes)). If the client and the provider use the same
format, the request passes unchanged, except that the gateway removes what it has put into the history itself.

The table is data in `proxy/formats/constraints/rows/`. A row applies to formats, to providers (to all
providers if it names none), and to models whose name contains a match of its regular expression. Rows for
some vendors or models precede rows for all, because for most rules only the first row is used. To add a
constraint, add a row for an existing rule, with its source and date. A new rule also needs a step in
`adaptation.py` and a check in `tests/support/vendor_checker/`. The tests run these checks on every recorded
and generated request.

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
