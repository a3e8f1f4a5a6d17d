"""Opaque parts: blocks that only Anthropic's API has, with a text for other formats.

Sources: the SDK `anthropic` (types of content blocks), and platform.claude.com/docs, "Server tools".
"""

from typing import Any

from proxy.formats.anthropic.wire import FORMAT
from proxy.formats.json_body import as_dict, as_str, dict_items
from proxy.formats.neutral import Opaque
from proxy.formats.tools.opaque_parts import call_text, code_text, output_text, results_text, search_text

Block = dict[str, Any]


def parse_opaque_part(block: Block, kind: str) -> Opaque:
    """Return a block as an opaque part."""
    return Opaque(origin=FORMAT, kind=kind, value=block, text=opaque_text(block, kind))


def opaque_text(block: Block, kind: str) -> str:
    """Return the text that replaces a block in other formats.

    The result is empty for unknown types, and for files in a container.
    """
    content = block.get("content")
    match kind:
        case "server_tool_use":
            return use_text(as_str(block.get("name")), as_dict(block.get("input")))
        case "web_search_tool_result":
            pages = [(page.get("title"), page.get("url")) for page in dict_items(content)]
            return results_text(pages) or error_text(content) or "No page was found."
        case "web_fetch_tool_result":
            return page_text(as_dict(content))
        case "code_execution_tool_result" | "bash_code_execution_tool_result":
            result = as_dict(content)
            return output_text(result.get("stdout"), result.get("stderr")) or error_text(content)
        case "text_editor_code_execution_tool_result":
            return output_text(as_dict(content).get("content")) or error_text(content)
        case "tool_search_tool_result":
            found = [reference.get("tool_name") for reference in tool_references(content)]
            return f"Tools found: {', '.join(map(str, found))}." if found else error_text(content)
        case "mcp_tool_use":
            return call_text(block.get("name"), block.get("input"))
        case "mcp_tool_result" | "advisor_tool_result":
            return result_text(content)
        case "browser_state":
            return tabs_text(block)
        case "compaction":
            return as_str(content)
        case _:
            return ""


def use_text(name: str, given: Block) -> str:
    """Return the text that replaces a call of a server tool."""
    match name:
        case "web_search":
            return search_text([given.get("query")])
        case "code_execution":
            return code_text(given.get("code"), "python")
        case "bash_code_execution":
            return code_text(given.get("command"), "bash")
        case _:
            return call_text(name, given)


def page_text(result: Block) -> str:
    """Return a fetched page after its URL. If the page is not text, return only the URL."""
    document = as_dict(result.get("content"))
    source, address = as_dict(document.get("source")), as_str(result.get("url"))
    body = as_str(source.get("data")) if source.get("type") == "text" else ""
    return "\n\n".join(filter(None, (address and f"Content of {address}:", body))) or error_text(result)


def tool_references(content: Any) -> list[Block]:
    return dict_items(as_dict(content).get("tool_references"))


def result_text(content: Any) -> str:
    """Return the text of a result: a string, a list of texts, or an object with a text."""
    match content:
        case str():
            return content
        case list():
            return "".join(as_str(part.get("text")) for part in dict_items(content))
        case _:
            return as_str(as_dict(content).get("text")) or error_text(content)


def error_text(content: Any) -> str:
    code = as_dict(content).get("error_code")
    return f"The tool failed: {code}." if isinstance(code, str) else ""


def tabs_text(state: Block) -> str:
    """Return the tabs of a browser, with one tab on each line."""
    lines = [
        f"- {tab.get('tab_id')}: {tab.get('title')} {tab.get('url')}" + " (active)" * bool(tab.get("active"))
        for tab in dict_items(state.get("tabs"))
    ]
    return "\n".join(["Open tabs:", *lines]) if lines else "No tab is open."
