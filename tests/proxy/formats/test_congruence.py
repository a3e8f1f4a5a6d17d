"""All packages of formats have the same modules, with the same public names."""

from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.codec import Codec
from proxy.formats.registry import CODECS
from tests.style.layout import CODEC_MODULES

PACKAGES = (openai_chat, openai_responses, anthropic, gemini)
EXTRA_MODULES = {
    "openai_chat": {"choice_decoder", "completions", "embeddings", "envelope"},
    "openai_responses": {
        "background",
        "compaction",
        "count_tokens",
        "event_writer",
        "image_generation",
        "opaque_parts",
        "server_tools",
        "summaries",
        "typed_calls",
    },
    "anthropic": {"count_tokens", "json_schema", "opaque_parts", "toolsets"},
    "gemini": {
        "choice_decoder",
        "count_tokens",
        "embeddings",
        "grounding",
        "json_schema",
        "modalities",
        "partial_arguments",
        "repeated_results",
    },
}
"""Modules for features that only one format has."""
EXTRA_NAMES = {
    "openai_chat": {"ChatRequest"},
    "openai_responses": {"ResponsesRequest", "stateful_features"},
    "anthropic": {"MessagesRequest", "CountTokensRequest"},
    "gemini": {"GenerateContentRequest"},
}
"""Public names that are not in `Codec`: requests of clients, and features that only one format has."""
MODULE_NAMES = {
    "wire": {"FORMAT", "RequestFields", "WireRequest"},
    "request": {"parse_request", "render_request", "render_max_tokens", "request_path"},
    "messages": {"parse_messages", "render_messages"},
    "content": {"parse_part", "render_part", "render_tool_call"},
    "tools": {"parse_tools", "parse_tool_choice", "render_tools", "render_tool_choice"},
    "vendor_tools": {"parse_server_tool", "parse_shared_tool"},
    "capabilities": {"SERVER_TOOLS", "server_tools_for"},
    "reasoning": {"parse_reasoning", "render_reasoning"},
    "response": {"parse_response", "parse_finish_reason", "render_response"},
    "errors": {"CONTEXT_LENGTH_WORDS", "ERRORS", "parse_error", "render_error", "render_error_event"},
    "usage": {"StreamUsage", "measure", "parse_usage", "usage_from_wire", "render_usage"},
    "decoder": {"StreamDecoder"},
    "encoder": {"StreamEncoder"},
    "passthrough": {"StreamMeter", "max_input_tokens", "rendered_facts"},
    "account_ids": {"ACCOUNT_ID_FIELDS"},
    "seals": {"without_seals"},
}
"""Names that each package defines in these modules."""

formats = pytest.mark.parametrize("package", PACKAGES, ids=[package.FORMAT for package in PACKAGES])


def modules_of(package: ModuleType) -> set[str]:
    (folder,) = package.__path__
    return {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}


@formats
def test_package_has_the_modules_of_every_format(package: ModuleType) -> None:
    assert modules_of(package) == CODEC_MODULES | EXTRA_MODULES[package.FORMAT]


@formats
def test_package_exports_the_names_of_the_protocol(package: ModuleType) -> None:
    names = {name for name in vars(Codec) if not name.startswith("_")}
    classes = {"StreamDecoder", "StreamEncoder"}
    assert set(package.__all__) == names | classes | EXTRA_NAMES[package.FORMAT]


@formats
@pytest.mark.parametrize("module", MODULE_NAMES)
def test_module_defines_the_names_of_every_format(package: ModuleType, module: str) -> None:
    loaded = import_module(f"{package.__name__}.{module}")
    assert {name for name in MODULE_NAMES[module] if not defines(loaded, name)} == set()


def defines(module: ModuleType, name: str) -> bool:
    """Return whether the module itself defines the name."""
    value = vars(module).get(name)
    is_imported = isinstance(value, FunctionType | type) and value.__module__ != module.__name__
    return value is not None and not is_imported


@formats
@pytest.mark.parametrize(("status", "kind"), [(418, "invalid_request"), (599, "server_error")])
def test_error_table_has_a_row_for_any_status(package: ModuleType, status: int, kind: str) -> None:
    errors = import_module(f"{package.__name__}.errors")
    assert errors.ERRORS.for_status(status).kind == kind


def test_registry_holds_every_format_by_its_name() -> None:
    assert {name: codec.FORMAT for name, codec in CODECS.items()} == {
        package.FORMAT: package.FORMAT for package in PACKAGES
    }
