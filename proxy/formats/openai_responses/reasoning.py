"""Reasoning settings and reasoning items, parsed and rendered."""

from typing import Any

from proxy.formats.json_body import as_str, dict_items
from proxy.formats.neutral import Reasoning, Request, Thinking
from proxy.formats.openai_responses.content import PARAGRAPH_BREAK, new_id
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.quirks import Quirks
from proxy.formats.reasoning import effort_from_budget
from proxy.formats.seals import parse_thinking, render_signature

INCLUDE_LOGPROBS = "message.output_text.logprobs"
INCLUDE_ENCRYPTED_REASONING = "reasoning.encrypted_content"


def parse_reasoning(reasoning: dict[str, Any]) -> Reasoning | None:
    effort, summary = reasoning.get("effort"), reasoning.get("summary") or reasoning.get("generate_summary")
    if not effort and not summary:
        return None
    return Reasoning(effort=as_str(effort) or None, visible=True if summary else None)


def render_reasoning(request: Request, quirks: Quirks) -> dict[str, Any]:
    """Render the fields `reasoning` and `include`.

    Encrypted thinking is requested only if the client has set reasoning, because models that do not think
    reject this value of `include`.
    """
    include = [INCLUDE_LOGPROBS] if request.logprobs is not None else []
    settings: dict[str, Any] = {}
    if wanted := request.reasoning:
        shown = "thinking" not in quirks.unsupported_for(request.model)
        include += [INCLUDE_ENCRYPTED_REASONING] if shown else []
        chosen = {
            "effort": wanted.effort or effort_from_budget(wanted.budget, None),
            "summary": "auto" if wanted.visible and shown else None,
        }
        settings["reasoning"] = {name: value for name, value in chosen.items() if value} or {
            "effort": "medium"
        }
    include += request.unmapped_settings.get("include", [])
    return settings | {"include": include} if include else settings


def parse_reasoning_item(item: dict[str, Any]) -> tuple[Thinking, ...]:
    """Return the thinking in a reasoning item.

    If the item is a seal, it is the thinking of another vendor.

    The text is the summary, which OpenAI sends, or else the raw thinking, which servers of open models send.
    """
    texts = parse_reasoning_texts(item, "summary") or parse_reasoning_texts(item, "content")
    encrypted = as_str(item.get("encrypted_content"))
    return parse_thinking(PARAGRAPH_BREAK.join(texts), encrypted, FORMAT)


def parse_reasoning_texts(item: dict[str, Any], field: str) -> list[str]:
    return [text for part in dict_items(item.get(field)) if (text := as_str(part.get("text")))]


def render_thinking(part: Thinking) -> dict[str, Any] | None:
    """Render thinking as an item for a client; None if it is empty.

    The seal of another vendor's thinking also contains its text, because a client may leave out the summary
    when it sends the item back.
    """
    if not (part.text or part.signature or part.redacted):
        return None
    return {"id": new_id("rs"), **render_reasoning_item(part.text, render_signature(part, FORMAT))}


def render_reasoning_item(text: str, encrypted_content: str | None) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, Any] = {"type": "reasoning", "summary": summary}
    return item | {"encrypted_content": encrypted_content} if encrypted_content else item
