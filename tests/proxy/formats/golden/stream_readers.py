"""Readers of streams, which join events into a response, following the vendors' documentation."""

import json
from collections.abc import Callable
from typing import Any

from tests.proxy.formats.golden.builders import Body


def events_of(stream: bytes) -> list[Body]:
    """Return the data of each event, without the end marker of chat completions."""
    blocks = stream.decode().replace("\r\n", "\n").split("\n\n")
    data = [
        line.removeprefix("data: ")
        for block in blocks
        for line in block.split("\n")
        if line.startswith("data: ")
    ]
    return [json.loads(text) for text in data if text != "[DONE]"]


# Chat completions ---------------------------------------------------------------------------------


def openai_chat(events: list[Body]) -> Body:
    choices: dict[int, Body] = {}
    for event in events:
        for chunk in event["choices"]:
            choice = choices.setdefault(
                chunk["index"], {"index": chunk["index"], "message": {}, "logprobs": None}
            )
            choice["finish_reason"] = chunk["finish_reason"]
            merge_delta(choice["message"], chunk["delta"])
            if chunk["logprobs"]:
                choice["logprobs"] = merge_delta(choice["logprobs"] or {}, chunk["logprobs"])
    for choice in choices.values():
        if not choice["message"]["content"] and (
            choice["message"].get("tool_calls") or choice["message"]["refusal"]
        ):
            choice["message"]["content"] = (
                None  # The first chunk of each choice has an empty text, whatever follows.
            )
    head = {name: events[0][name] for name in ("id", "created", "model", "system_fingerprint")} | {
        "object": "chat.completion"
    }
    return head | {"choices": [choices[index] for index in sorted(choices)], "usage": events[-1]["usage"]}


def merge_delta(merged: Body, delta: Body) -> Body:
    """Merge a delta as OpenAI's SDK does: texts and lists grow, entries with an index merge."""
    for name, value in delta.items():
        known = merged.get(name)
        match value:
            case str() if isinstance(known, str) and name not in ("id", "type"):
                merged[name] = known + value
            case [{"index": int()}, *_] if name == "tool_calls":
                merged[name] = merge_tool_calls(known or [], value)
            case list():
                merged[name] = [*(known or []), *value]
            case dict():
                merged[name] = merge_delta(known or {}, value)
            case _:
                merged[name] = value if known is None else known
    return merged


def merge_tool_calls(calls: list[Body], deltas: list[Body]) -> list[Body]:
    for delta in deltas:
        rest = {name: value for name, value in delta.items() if name != "index"}
        if delta["index"] == len(calls):
            calls.append({})
        merge_delta(calls[delta["index"]], rest)
    return calls


# Responses ----------------------------------------------------------------------------------------


def openai_responses(events: list[Body]) -> Body:
    """Return the complete response in the last event. Assert that the earlier events agree with it."""
    response: Body = events[-1]["response"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == response[
        "output"
    ]
    for index, item in enumerate(response["output"]):
        own_events = [event for event in events if event.get("output_index") == index]
        for kind, text in texts_of(item):
            assert (
                "".join(event["delta"] for event in own_events if event["type"] == f"response.{kind}.delta")
                == text
            )
    return response


def texts_of(item: Body) -> list[tuple[str, str]]:
    content = item.get("content") or []
    return [
        ("output_text", "".join(part.get("text", "") for part in content)),
        ("refusal", "".join(part.get("refusal", "") for part in content)),
        ("reasoning_summary_text", "".join(part["text"] for part in item.get("summary") or [])),
        ("function_call_arguments", item.get("arguments", "") if item["type"] == "function_call" else ""),
        ("custom_tool_call_input", item.get("input", "")),
    ]


# Messages -----------------------------------------------------------------------------------------


def anthropic(events: list[Body]) -> Body:
    response: Body = {}
    for event in events:
        match event:
            case {"type": "message_start", "message": message}:
                response = message
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(response["content"])
                response["content"].append(block)
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                add_anthropic_delta(response["content"][index], delta)
            case {"type": "content_block_stop", "index": index} if "partial" in response["content"][index]:
                block = response["content"][index]
                block["input"] = input_of(block.pop("partial"))
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                response |= delta | {"usage": usage}
            case _:
                pass
    assert events[-1] == {"type": "message_stop"}
    return response


def input_of(text: str) -> Body:
    """Return the decoded input of a call, or the text if it is not valid JSON."""
    try:
        value: Body = json.loads(text or "{}")
    except ValueError:
        return {"_raw": text}
    return value


def add_anthropic_delta(block: Body, delta: Body) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "citations_delta", "citation": citation}:
            block["citations"] = [*block.get("citations", []), citation]
        case {"type": "input_json_delta", "partial_json": text}:
            block["partial"] = block.get("partial", "") + text
        case _:
            raise AssertionError(delta)


# generateContent ----------------------------------------------------------------------------------


def gemini(events: list[Body]) -> Body:
    candidates: dict[int, Body] = {}
    for event in events:
        for chunk in event["candidates"]:
            candidate = candidates.setdefault(chunk["index"], {"content": {"role": "model"}})
            for part in chunk["content"].get("parts", ()):
                add_gemini_part(candidate["content"].setdefault("parts", []), part)
            logprobs = merge_delta(candidate.get("logprobsResult") or {}, chunk.get("logprobsResult") or {})
            candidate |= {name: value for name, value in chunk.items() if name != "content"}
            candidate |= {"logprobsResult": logprobs} if logprobs else {}
    for candidate in candidates.values():
        if not candidate["content"].get("parts"):
            candidate["content"].pop("parts", None)
    return {**events[-1], "candidates": [candidates[index] for index in sorted(candidates)]}


def add_gemini_part(parts: list[Body], part: Body) -> None:
    """Add a part. Join the pieces of a text, which share one signature.

    Empty pieces are ignored.
    """
    last = parts[-1] if parts else {}
    if part == {"text": ""}:
        return
    if (
        "text" in part
        and "text" in last
        and part.get("thought") == last.get("thought")
        and "thoughtSignature" not in last
    ):
        parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
    else:
        parts.append(part)


READERS: dict[str, Callable[[list[Body]], Body]] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}


def read_stream(format: str, stream: bytes) -> Any:
    return READERS[format](events_of(stream))
