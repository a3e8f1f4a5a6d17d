"""Writers of streams that follow each vendor's documentation and do not use the gateway's encoders."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.proxy.formats.golden.builders import Body


def halves(text: str) -> list[str]:
    half = len(text) // 2
    return [piece for piece in (text[:half], text[half:]) if piece]


def event(data: Body, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


# Chat completions (platform.openai.com/docs/api-reference/chat-streaming) -------------------------


def openai_chat(response: Body) -> Iterator[bytes]:
    head = {name: response[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in response["choices"]:
        for delta in chat_deltas(choice["message"], choice.get("logprobs")):
            yield event({**head, "choices": [{"index": choice["index"], "finish_reason": None, **delta}]})
    for choice in response["choices"]:
        last = {name: value for name, value in choice.items() if name not in ("message", "logprobs")}
        yield event({**head, "choices": [{"delta": {}, **last}]})
    yield event({**head, "choices": [], "usage": response["usage"]})
    yield b"data: [DONE]\n\n"


def chat_deltas(message: Body, logprobs: Body | None) -> Iterator[Body]:
    yield {"delta": {"role": "assistant", "content": ""}}
    details = message.get("reasoning_details") or []
    for name in ("reasoning", "reasoning_content"):
        yield from ({"delta": {name: piece}} for piece in halves(message.get(name) or ""))
    for detail in details:
        yield {
            "delta": {"reasoning_details": [{key: value for key, value in detail.items() if key != "text"}]}
        }
    yield from chat_content(message.get("content") or "", (logprobs or {}).get("content"))
    yield from ({"delta": {"refusal": piece}} for piece in halves(message.get("refusal") or ""))
    yield from ({"delta": {name: message[name]}} for name in ("images", "annotations") if name in message)
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from chat_call(index, call)


def chat_content(text: str, entries: list[Body] | None) -> Iterator[Body]:
    if entries:
        yield from (
            {"delta": {"content": entry["token"]}, "logprobs": {"content": [entry], "refusal": None}}
            for entry in entries
        )
    else:
        yield from ({"delta": {"content": piece}} for piece in halves(text))


def chat_call(index: int, call: Body) -> Iterator[Body]:
    kind, field = (call["type"], "input" if call["type"] == "custom" else "arguments")
    first = {**call, "index": index, kind: {**call[kind], field: ""}}
    yield {"delta": {"tool_calls": [first]}}
    for piece in halves(call[kind][field]):
        yield {"delta": {"tool_calls": [{"index": index, kind: {field: piece}}]}}


# Responses (platform.openai.com/docs/api-reference/responses-streaming) ---------------------------


def openai_responses(response: Body) -> Iterator[bytes]:
    started = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events: list[tuple[str, Body]] = [
        ("created", {"response": started}),
        ("in_progress", {"response": started}),
    ]
    for index, item in enumerate(response["output"]):
        events += [(name, {"output_index": index, **fields}) for name, fields in responses_item(item)]
    events.append((response["status"], {"response": response}))
    for number, (name, fields) in enumerate(events):
        yield event({"type": f"response.{name}", "sequence_number": number, **fields}, f"response.{name}")


def responses_item(item: Body) -> Iterator[tuple[str, Body]]:
    empty = {"content": [], "summary": [], "arguments": "", "input": ""}
    started = {
        name: empty.get(name, value)
        for name, value in item.items()
        if name not in ("encrypted_content", "result")
    }
    yield (
        "output_item.added",
        {"item": {**started, **({"status": "in_progress"} if "status" in item else {})}},
    )
    for name, fields in responses_deltas(item):
        yield name, {"item_id": item["id"], **fields}
    yield "output_item.done", {"item": item}


def responses_deltas(item: Body) -> Iterator[tuple[str, Body]]:
    for index, part in enumerate(item.get("content") or ()):
        name = {"output_text": "output_text", "refusal": "refusal"}[part["type"]]
        text = part.get("text") or part.get("refusal") or ""
        entries = part.get("logprobs") or []
        pieces = [(entry["token"], [entry]) for entry in entries] or [(piece, []) for piece in halves(text)]
        for piece, logprobs in pieces:
            yield f"{name}.delta", {"content_index": index, "delta": piece, "logprobs": logprobs}
    for index, part in enumerate(item.get("summary") or ()):
        for piece in halves(part["text"]):
            yield "reasoning_summary_text.delta", {"summary_index": index, "delta": piece}
    for field, name in (("arguments", "function_call_arguments"), ("input", "custom_tool_call_input")):
        for piece in halves(item.get(field) or ""):
            yield f"{name}.delta", {"delta": piece}


# Messages (platform.claude.com/docs/en/build-with-claude/streaming) -------------------------------


def anthropic(response: Body) -> Iterator[bytes]:
    started = {
        **response,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**response["usage"], "output_tokens": 1},
    }
    yield anthropic_event("message_start", message=started)
    yield anthropic_event("ping")
    for index, block in enumerate(response["content"]):
        start, deltas = anthropic_block(block)
        yield anthropic_event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield anthropic_event("content_block_delta", index=index, delta=delta)
        yield anthropic_event("content_block_stop", index=index)
    stop = {name: response[name] for name in ("stop_reason", "stop_sequence")}
    yield anthropic_event(
        "message_delta", delta=stop, usage={"output_tokens": response["usage"]["output_tokens"]}
    )
    yield anthropic_event("message_stop")


def anthropic_event(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)


def anthropic_block(block: Body) -> tuple[Body, list[Body]]:
    """Return the start of a block, and its deltas."""
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
            cited = [
                {"type": "citations_delta", "citation": citation} for citation in block.get("citations", ())
            ]
            return {"type": "text", "text": "", **({"citations": []} if cited else {})}, cited + deltas
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                *deltas,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "tool_use" | "server_tool_use":
            given = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
            given = given if block["input"] else ""
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in ["", *halves(given)]
            ]
        case _:
            return block, []


# streamGenerateContent (ai.google.dev/api/generate-content#method:-models.streamgeneratecontent) --


def gemini(response: Body) -> Iterator[bytes]:
    """Stream the parts of a candidate one after the other, with texts in pieces and metadata at the end."""
    head = {name: response[name] for name in ("modelVersion", "responseId")}
    for candidate in response.get("candidates", ()):
        for part, beside in gemini_parts(candidate):
            content = {"role": "model", "parts": [part]}
            yield gemini_event(
                {"candidates": [{"content": content, "index": candidate["index"], **beside}], **head}
            )
    ends = [gemini_end(candidate) for candidate in response.get("candidates", ())]
    yield gemini_event({**response, **({"candidates": ends} if ends else {})})


def gemini_parts(candidate: Body) -> Iterator[tuple[Body, Body]]:
    """Yield each piece with the log probabilities of its tokens."""
    parts, chosen = (
        candidate["content"].get("parts", ()),
        candidate.get("logprobsResult", {}).get("chosenCandidates"),
    )
    if not chosen:
        yield from ((piece, {}) for part in parts for piece in gemini_pieces(part))
        return
    for token, top in zip(chosen, candidate["logprobsResult"]["topCandidates"], strict=True):
        yield (
            {"text": token["token"]},
            {"logprobsResult": {"chosenCandidates": [token], "topCandidates": [top]}},
        )


def gemini_end(candidate: Body) -> Body:
    last = {"content": {"role": "model", "parts": [{"text": ""}]}}
    return {name: value for name, value in (candidate | last).items() if name != "logprobsResult"}


def gemini_pieces(part: Body) -> Iterable[Body]:
    """Yield the pieces of a text; the last one has the signature."""
    if "text" not in part:
        return [part]
    *first, last = halves(part["text"])
    kind = {"thought": True} if part.get("thought") else {}
    return [*({"text": piece, **kind} for piece in first), {**part, "text": last}]


def gemini_event(data: Body) -> bytes:
    return event(data).replace(b"\n\n", b"\r\n\r\n")


def stream_of(format: str, response: Body) -> bytes:
    writers = {
        "openai_chat": openai_chat,
        "openai_responses": openai_responses,
        "anthropic": anthropic,
        "gemini": gemini,
    }
    return b"".join(writers[format](response))
