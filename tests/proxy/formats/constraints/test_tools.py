"""Adaptation of tools, tool choices and schemas to a destination."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.strict_schema import is_strict
from proxy.formats.neutral import (
    Message,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.proxy.formats.constraints.adaptations import (
    HI,
    OBJECT,
    adapted,
    adapted_schema,
    chat,
    claude,
    gemini,
    responses,
)
from tests.support.vendor_checker.schema_checks import outside_of_draft

EACH_FORMAT = [chat("gpt-4o"), responses("gpt-5"), claude(), gemini()]
LONG_NAME = "mcp__ticket_system__list_all_pipeline_jobs_of_a_merge_request_with_logs"
REFERENCE = {"$ref": "#/$defs/point"}
POINT = {"type": "object", "properties": {"x": {"type": "number"}}}


def tools(*names: str) -> tuple[Tool, ...]:
    return tuple(Tool(name=name, schema=OBJECT) for name in names)


def names_of(offered: Any) -> list[str]:
    return [tool.name for tool in offered]


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "name", "is_kept"),
    [
        (chat("gpt-4o"), "a" * 64, True),
        (chat("gpt-4o"), "a" * 65, False),
        (responses("gpt-5"), LONG_NAME, False),
        (chat("gpt-4o"), "list.all", False),
        (chat("gpt-4o"), "größe", False),
        (claude(), "a" * 128, True),
        (claude(), "a" * 129, False),
        (claude(), "list.all", False),
        (gemini(), "list.all:now", True),
        (gemini(), "7zip", False),
        (gemini(), "a b", False),
        (gemini(), "a" * 129, False),
    ],
)
def test_names_that_a_vendor_rejects_are_replaced_everywhere(
    destination: Destination, name: str, is_kept: bool
) -> None:
    history = (
        *HI,
        Message(role="assistant", parts=(ToolCall(id="1", name=name, arguments="{}"),)),
        Message(role="user", parts=(ToolResult(call_id="1", name=name, content=(Text(text="ok"),)),)),
    )
    choice = ToolChoice(mode="auto", names=(name,))
    changed = adapted(destination, tools=tools(name, "other"), messages=history, tool_choice=choice)
    request, alias = changed.request, changed.aliases.tools.get(name, name)
    assert (alias == name) is is_kept
    assert names_of(request.tools) == [alias, "other"]
    parts = [part for message in request.messages for part in message.parts]
    assert [part.name for part in parts if isinstance(part, ToolCall | ToolResult)] == [alias, alias]
    assert request.tool_choice == ToolChoice(mode="auto", names=(alias,))
    assert changed.changes == (), "the client gets its own names back, so nothing is lost"


def test_aliases_are_stable_and_different() -> None:
    names = [f"{LONG_NAME}_{place}" for place in range(50)]
    first, second = (adapted(chat("gpt-4o"), tools=tools(*order)) for order in (names, reversed(names)))
    assert first.aliases.tools == second.aliases.tools
    assert len(set(first.aliases.tools.values())) == 50
    assert all(len(alias) <= 64 for alias in first.aliases.tools.values())


@pytest.mark.parametrize("destination", EACH_FORMAT)
def test_the_first_of_several_tools_of_one_name_is_kept(destination: Destination) -> None:
    repeated = (*tools("f", "g"), Tool(name="f", description="another", schema=OBJECT))
    changed = adapted(destination, tools=repeated)
    assert (changed.request.tools, changed.changes) == (repeated[:2], ("tools",))


@pytest.mark.parametrize(
    ("destination", "most"), [(chat("gpt-4o"), 128), (chat("x", "groq"), 128), (gemini(), 512)]
)
def test_surplus_tools_are_dropped_but_the_chosen_ones(destination: Destination, most: int) -> None:
    many = tools(*(f"tool_{place}" for place in range(600)))
    changed = adapted(destination, tools=many, tool_choice=ToolChoice(mode="required", names=("tool_599",)))
    assert names_of(changed.request.tools) == [*(f"tool_{place}" for place in range(most - 1)), "tool_599"]
    assert changed.changes == ("tools",)


def test_long_descriptions_for_azure_move_to_the_system_prompt() -> None:
    tool = Tool(name="f", description="d" * 1025, schema=OBJECT)
    changed = adapted(chat("gpt-4o", "azure"), tools=(tool,), system=(Text(text="Be kind."),))
    assert names_of(changed.request.tools) == ["f"]
    assert [len(offered.description) for offered in changed.request.tools if isinstance(offered, Tool)] == [
        1024
    ]
    assert changed.request.system == (Text(text="Be kind."), Text(text=f"The tool f: {'d' * 1025}"))
    assert changed.changes == ("tools.description;changed=shortened",)
    assert adapted(chat("gpt-4o"), tools=(tool,)).request.tools == (tool,)


# Choice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "destination",
    [
        claude("claude-opus-5-5"),
        claude("claude-fable-5-1"),
        chat("deepseek-v4-pro", "deepseek"),
    ],
)
def test_a_call_that_cannot_be_forced_is_asked_for(destination: Destination) -> None:
    changed = adapted(
        destination, tools=tools("f", "g"), tool_choice=ToolChoice(mode="required", names=("g",))
    )
    assert changed.request.tool_choice == ToolChoice()
    assert changed.request.system == (Text(text="Answer with a call of one of these tools: g."),)
    assert changed.changes == ("tool_choice",)


@pytest.mark.parametrize("destination", EACH_FORMAT)
def test_a_choice_without_tools_is_dropped(destination: Destination) -> None:
    changed = adapted(destination, tool_choice=ToolChoice(mode="required"), parallel_tool_calls=False)
    assert (changed.request.tool_choice, changed.request.parallel_tool_calls) == (None, None)
    assert changed.changes == ("tool_choice",)
    assert adapted(destination, tool_choice=ToolChoice(mode="none")).changes == ()


# Schemas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", [chat("gpt-4o"), responses("gpt-5"), claude(), gemini()])
@pytest.mark.parametrize(
    "schema", [{"type": "array", "items": {"type": "string"}}, {"anyOf": [{"type": "string"}]}]
)
def test_arguments_that_are_no_object_are_wrapped(destination: Destination, schema: dict[str, Any]) -> None:
    assert adapted_schema(destination, schema) == {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
    }


@pytest.mark.parametrize("destination", EACH_FORMAT)
def test_a_schema_without_a_type_gets_one(destination: Destination) -> None:
    assert adapted_schema(destination, {"properties": {"a": {}}}) == {
        "properties": {"a": {}},
        "type": "object",
    }


def test_every_object_for_openai_has_properties_and_every_list_has_items() -> None:
    inner = {"type": ["object", "null"], "additionalProperties": {"type": "object"}}
    schema = {"type": "object", "properties": {"a": inner, "b": {"anyOf": [{"type": "array"}]}}}
    assert adapted_schema(chat("gpt-4o"), schema) == {
        "type": "object",
        "properties": {
            "a": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "object", "properties": {}},
                "properties": {},
            },
            "b": {"anyOf": [{"type": "array", "items": {}}]},
        },
    }


@pytest.mark.parametrize("destination", [chat("gpt-4o"), responses("gpt-5"), claude()])
@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_alternatives_at_the_top_are_merged(destination: Destination, keyword: str) -> None:
    kinds = [
        {
            "properties": {"kind": {"const": kind}, kind: {"type": "string"}},
            "required": ["kind", kind],
        }
        for kind in ("file", "url")
    ]
    assert adapted_schema(destination, {"type": "object", keyword: kinds}) == {
        "type": "object",
        "properties": {
            "kind": {"enum": ["file", "url"]},
            "file": {"type": "string"},
            "url": {"type": "string"},
        },
        "required": ["kind"],
        "description": f"The arguments must also match {keyword}: (kind, file) | (kind, url).",
    }


def test_all_of_at_the_top_is_merged_with_definitions() -> None:
    schema = {"allOf": [REFERENCE, {"required": ["x"]}], "$defs": {"point": POINT}}
    assert adapted_schema(claude(), schema) == {
        "$defs": {"point": POINT},
        "type": "object",
        "properties": {"x": {"type": "number"}},
        "required": ["x"],
        "description": "The arguments must also match allOf: (...) | (x).",
    }


def test_lost_rules_of_a_schema_are_named() -> None:
    schema = {**OBJECT, "not": {"required": ["a"]}}
    assert adapted(chat("gpt-4o"), tools=(Tool(name="f", schema=schema),)).changes == (
        "tools.schema;changed=rewritten",
    )
    assert adapted(claude(), tools=(Tool(name="f", schema=schema),)).changes == ()


def test_names_of_arguments_for_claude_are_replaced_at_every_depth() -> None:
    inner = {"type": "object", "properties": {"a/b": {}}, "required": ["a/b"]}
    schema = {"type": "object", "properties": {"$filter": inner, "plain": {}}, "required": ["$filter"]}
    call = ToolCall(id="1", name="f", arguments=json.dumps({"$filter": {"a/b": [{"a/b": 1}]}, "plain": 2}))
    changed = adapted(
        claude(),
        tools=(Tool(name="f", schema=schema),),
        messages=(*HI, Message(role="assistant", parts=(call,)), *HI),
    )
    keys = changed.aliases.keys["f"]
    assert keys.keys() == {"$filter", "a/b"}
    (tool,) = changed.request.tools
    assert isinstance(tool, Tool) and tool.schema == {
        "type": "object",
        "properties": {
            keys["$filter"]: {
                "type": "object",
                "properties": {keys["a/b"]: {}},
                "required": [keys["a/b"]],
            },
            "plain": {},
        },
        "required": [keys["$filter"]],
    }
    (sent,) = changed.request.messages[1].parts
    assert isinstance(sent, ToolCall) and json.loads(sent.arguments) == {
        keys["$filter"]: {keys["a/b"]: [{keys["a/b"]: 1}]},
        "plain": 2,
    }


def test_nothing_stands_beside_a_reference_for_gemini() -> None:
    schema = {
        "type": "object",
        "properties": {"p": {**REFERENCE, "description": "Where"}, "q": {"$ref": "#/gone", "title": "Q"}},
        "$defs": {"point": POINT},
    }
    assert adapted_schema(gemini(), schema)["properties"] == {
        "p": {**POINT, "description": "Where"},
        "q": {"$ref": "#/gone"},
    }


@pytest.mark.parametrize("destination", EACH_FORMAT)
def test_older_drafts_become_the_current_one(destination: Destination) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "pair": {"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": "any"}},
            "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "required": True},
            "size": {"type": ["number", "null", "float"], "maximum": 3, "exclusiveMaximum": False},
            "type": "object",
            "none": {"default": None, "enum": ["a", None], "description": None},
        },
        "required": None,
    }
    assert adapted_schema(destination, schema) == {
        "type": "object",
        "properties": {
            "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {}},
            "age": {"type": "integer", "exclusiveMinimum": 0},
            "size": {"type": ["number", "null"], "maximum": 3},
            "none": {"default": None, "enum": ["a", None]},
        },
    }


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "object", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "a",
                    "type",
                    "properties",
                    "required",
                    "items",
                    "anyOf",
                    "allOf",
                    "not",
                    "$ref",
                    "$defs",
                    "enum",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("destination", EACH_FORMAT)
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "allOf", "$defs"]), GARBAGE))
def test_any_schema_becomes_a_valid_one(destination: Destination, schema: dict[str, Any]) -> None:
    assert outside_of_draft(adapted_schema(destination, schema) if schema else {}) == []


# Strict schemas and formats -----------------------------------------------------------------------

CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({name: value for name, value in CLOSED.items() if name != "additionalProperties"}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "minLength": 1}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "pattern": "x"}}}, True),
        ({**CLOSED, "properties": {"a": {}}}, False),
        ({**CLOSED, "properties": {"a": OBJECT}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array"}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED, {"type": "null"}]}}}, True),
        ({**CLOSED, "properties": {"a": {"allOf": [CLOSED]}}}, False),
        ({**CLOSED, "properties": {"a": {"enum": list(range(1001)), "type": "integer"}}}, False),
        ({**CLOSED, "anyOf": [CLOSED]}, False),
        ({"type": "array", "items": CLOSED}, False),
    ],
)
def test_strict_is_kept_within_openai_s_subset_only(schema: dict[str, Any], expected: bool) -> None:
    assert is_strict(schema) is expected


@pytest.mark.parametrize("destination", [chat("gpt-4o"), responses("gpt-5")])
def test_openai_gets_strict_only_for_schemas_that_it_enforces(destination: Destination) -> None:
    open_schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    changed = adapted(
        destination,
        tools=(Tool(name="f", schema=CLOSED, strict=True), Tool(name="g", schema=open_schema, strict=True)),
        response_format=ResponseFormat(schema=open_schema, strict=True),
    )
    assert [tool.strict for tool in changed.request.tools if isinstance(tool, Tool)] == [True, None]
    assert changed.request.response_format == ResponseFormat(schema=open_schema, strict=False)
    assert changed.changes == ("strict",)


def test_a_strict_schema_may_be_ten_levels_deep() -> None:
    schema: dict[str, Any] = CLOSED
    for _ in range(9):
        schema = {**CLOSED, "properties": {"a": schema}}
    assert is_strict(schema)
    assert not is_strict({**CLOSED, "properties": {"a": schema}})


def test_claude_gets_as_many_strict_tools_as_it_compiles() -> None:
    many = tuple(Tool(name=f"f{place}", schema=CLOSED, strict=True) for place in range(22))
    changed = adapted(claude(), tools=many)
    assert [tool.strict for tool in changed.request.tools if isinstance(tool, Tool)] == [True] * 20 + [
        None
    ] * 2
    assert changed.changes == ("strict",)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"p{place}": {"type": "string"} for place in range(25)}},
        {
            **OBJECT,
            "properties": {f"p{n}": {"type": ["string", "null"]} for n in range(17)},
            "required": ["p1"],
        },
        {"type": "object", "properties": {"a": REFERENCE}, "$defs": {"point": {"items": REFERENCE}}},
    ],
)
def test_claude_gets_no_strict_schema_that_it_cannot_compile(schema: dict[str, Any]) -> None:
    changed = adapted(claude(), tools=(Tool(name="f", schema=schema, strict=True),))
    assert changed.changes == ("strict",)
    asked = adapted(claude(), response_format=ResponseFormat(schema=schema))
    assert (asked.request.response_format, asked.changes) == (None, ("response_format",))


@pytest.mark.parametrize(
    "destination",
    [gemini("gemini-2.5-flash"), chat("openai/gpt-oss-120b", "groq"), chat("gpt-oss-120b", "cerebras")],
)
def test_a_format_beside_tools_is_asked_for(destination: Destination) -> None:
    wanted = ResponseFormat(schema=CLOSED)
    changed = adapted(destination, tools=tools("f"), response_format=wanted)
    assert (changed.request.response_format, changed.changes) == (None, ("response_format",))
    assert json.dumps(CLOSED, separators=(",", ":")) in changed.request.system[0].text
    assert adapted(destination, response_format=wanted).changes == ()


@pytest.mark.parametrize("destination", [gemini("gemini-3-pro-preview"), chat("gpt-4o"), claude()])
def test_other_models_take_a_format_beside_tools(destination: Destination) -> None:
    assert adapted(destination, tools=tools("f"), response_format=ResponseFormat(schema=CLOSED)).changes == ()


@pytest.mark.parametrize("schema", [{"type": "array", "items": {}}, {"anyOf": [CLOSED, CLOSED]}])
def test_openai_is_asked_for_an_answer_that_is_no_object(schema: dict[str, Any]) -> None:
    changed = adapted(responses("gpt-5"), response_format=ResponseFormat(schema=schema))
    assert (changed.request.response_format, changed.changes) == (None, ("response_format",))
    assert adapted(gemini("gemini-3-flash"), response_format=ResponseFormat(schema=schema)).changes == ()


def test_reasoning_is_kept_beside_tools_of_older_models() -> None:
    changed = adapted(chat("gpt-5.1"), tools=tools("f"), reasoning=Reasoning(effort="high"))
    assert (changed.request.reasoning, changed.changes) == (Reasoning(effort="high"), ())
