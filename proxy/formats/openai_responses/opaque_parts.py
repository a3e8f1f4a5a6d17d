"""Opaque parts: items that only the Responses API has, with a text for other formats.

Source: the SDK `openai` (types of input and output items).
"""

from typing import Any

from proxy.formats.json_body import as_dict, as_list, as_str, dict_items
from proxy.formats.neutral import Opaque
from proxy.formats.openai_responses.summaries import COMPACTION_TYPES
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.tools.opaque_parts import call_text, code_text, output_text, results_text, search_text

Item = dict[str, Any]
CALLER_DATA = ("item_reference", *COMPACTION_TYPES)
"""Types of items whose content OpenAI has stored or encrypted, so that no text can replace them."""
ENCRYPTED_PREFIX = "gAAAA"
"""The first characters of all data that OpenAI has encrypted."""


def parse_opaque_part(item: Item, kind: str) -> Opaque:
    """Return an item as an opaque part."""
    return Opaque(
        origin=FORMAT,
        kind=kind,
        value=item,
        text=opaque_text(item, kind),
        is_caller_data=kind in CALLER_DATA or is_encrypted_message(item, kind),
    )


def is_encrypted_message(item: Item, kind: str) -> bool:
    """Return whether an item is a message between agents that only OpenAI can read."""
    return kind == "agent_message" and not message_text(item)


def opaque_text(item: Item, kind: str) -> str:
    """Return the text that replaces an item in other formats.

    The result is empty for unknown types, lists of tools and settings.
    """
    match kind:
        case "web_search_call":
            return search_call_text(as_dict(item.get("action")))
        case "file_search_call":
            found = "\n\n".join(as_str(result.get("text")) for result in dict_items(item.get("results")))
            return call_text("file_search", item.get("queries")) + (f"\n{found}" if found else "")
        case "code_interpreter_call" | "program":
            printed = [output.get("logs") for output in dict_items(item.get("outputs"))]
            language = "python" if kind == "code_interpreter_call" else "javascript"
            return "\n".join(filter(None, (code_text(item.get("code"), language), output_text(*printed))))
        case "program_output":
            return output_text(item.get("result"))
        case "shell_call":
            return code_text(
                "\n".join(map(str, as_list(as_dict(item.get("action")).get("commands")))), "bash"
            )
        case "image_generation_call":
            prompt = as_str(item.get("revised_prompt"))
            return f"I generated an image: {prompt}" if prompt else "I generated an image."
        case "mcp_call":
            output = as_str(item.get("output")) or as_str(item.get("error"))
            return call_text(item.get("name"), item.get("arguments")) + (f"\n{output}" if output else "")
        case "mcp_approval_request":
            return f"I asked for the approval of {item.get('name')} with {item.get('arguments')}."
        case "mcp_approval_response":
            return "I approve it." if item.get("approve") else "I do not approve it."
        case "tool_search_call":
            return call_text("tool_search", item.get("arguments"))
        case "agent_message":
            return message_text(item)
        case _:
            return ""


def search_call_text(action: Item) -> str:
    """Return the text that replaces a web search, or the opening or searching of a page."""
    match action.get("type"):
        case "open_page" | "find_in_page":
            return f"I opened {action.get('url')}." if action.get("url") else ""
        case _:
            pages = [("", source.get("url")) for source in dict_items(action.get("sources"))]
            searched = search_text([*as_list(action.get("queries")), *named(action.get("query"))])
            return "\n".join(filter(None, (searched, results_text(pages))))


def named(query: Any) -> list[Any]:
    return [query] if isinstance(query, str) else []


def message_text(item: Item) -> str:
    """Return the text of a message between agents, with their names; empty if it is encrypted."""
    texts = [part_text(part) for part in dict_items(item.get("content"))]
    author, recipient = as_str(item.get("author")), as_str(item.get("recipient"))
    if not texts or None in texts:
        return ""
    return f"Message from {author or 'an agent'} to {recipient or 'you'}:\n{''.join(filter(None, texts))}"


def part_text(part: Item) -> str | None:
    """Return the text of a part of a message between agents, or None if only OpenAI can read it.

    OpenAI encrypts the arguments that the schema of a tool marks for encryption. If another vendor's model
    wrote such an argument, the field `encrypted_content` holds its plain text.
    """
    if part.get("type") != "encrypted_content":
        return as_str(part.get("text"))
    written = as_str(part.get("encrypted_content"))
    return None if written.startswith(ENCRYPTED_PREFIX) else written
