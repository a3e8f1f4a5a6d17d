"""Writes the events of an answer to a client, each with its number, and the items that they make up."""

import time
from typing import Any

from msgspec.structs import replace

from proxy.formats.body import encode
from proxy.formats.neutral import Citation, Failure, FinishReason, Refusal, Text, Thinking, ToolCall, Usage
from proxy.formats.openai_responses.items import annotation_of, full_logprob, new_id, output_text, reasoning_item, seal
from proxy.formats.openai_responses.response import (
    Status,
    answer_item,
    content_of,
    error_data,
    message_item,
    render_usage,
    signed_call,
    status_of,
)

FAILURE_CODES = {"rate_limit": "rate_limit_exceeded", "invalid_request": "invalid_prompt"}
"""The codes of a failed answer are few (docs/api-reference/responses/object, `error.code`); all others are `server_error`."""


class Writer:
    """`output` holds the items that are done; the one being written has the next index."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.output: list[dict[str, Any]] = []
        self.number = 0
        self.pending: list[bytes] = []
        self.message: dict[str, Any] | None = None
        self.event("response.created", {"response": answer})
        self.event("response.in_progress", {"response": answer})

    def take(self) -> bytes:
        data, self.pending = b"".join(self.pending), []
        return data

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        data = encode({"type": kind, "sequence_number": self.number, **fields})
        self.pending.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        self.number += 1

    def place(self, item: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": len(self.output), **more}

    def add(self, item: dict[str, Any]) -> None:
        self.close_message("completed")
        self.event("response.output_item.added", {"output_index": len(self.output), "item": item})

    def done(self, item: dict[str, Any]) -> None:
        self.event("response.output_item.done", {"output_index": len(self.output), "item": item})
        self.output.append(item)

    def add_whole(self, item: dict[str, Any]) -> None:
        self.add(item)
        self.done(item)

    def open_message(self) -> dict[str, Any]:
        """Texts that follow on one another are contents of one message, which stays open until something else comes."""
        if self.message is None:
            message = message_item(new_id("msg"), [], "in_progress")
            self.add(message)
            self.message = message
        return self.message

    def close_message(self, status: Status) -> None:
        if self.message is not None:
            message, self.message = self.message, None
            self.done({**message, "status": status})

    def complete(self, finish: FinishReason, usage: Usage | None) -> None:
        status, details = status_of(finish)
        self.close_message(status)
        self.conclude(status, {"incomplete_details": details}, usage)

    def fail(self, failure: Failure, usage: Usage | None, request_id: str) -> None:
        """As OpenAI does it: the error, then the answer that failed."""
        error = error_data(failure, request_id, self.number)
        self.pending.append(b"event: error\ndata: %b\n\n" % encode(error))
        self.number += 1
        told = {"code": FAILURE_CODES.get(failure.kind, "server_error"), "message": failure.message}
        self.conclude("failed", {"error": told}, usage)

    def conclude(self, status: Status, more: dict[str, Any], usage: Usage | None) -> None:
        ended = {"completed_at": int(time.time())} if status == "completed" else {}
        answer = {**self.answer, "status": status, **ended, "output": self.output, "usage": render_usage(usage), **more}
        self.event(f"response.{status}", {"response": answer})


class OpenText:
    """A text or refusal: it begins with its first words, so that an empty one leaves no trace."""

    def __init__(self, writer: Writer, part: Text | Refusal) -> None:
        self.writer, self.kind = writer, part
        self.name = "output_text" if isinstance(part, Text) else "refusal"
        self.place: dict[str, Any] = {}
        self.texts: list[str] = []
        self.logprobs: list[Any] = []
        self.citations: list[Citation] = []
        if part.text:
            self.write(part.text)

    def write(self, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text and not logprobs:
            return
        if not self.place:
            message = self.writer.open_message()
            self.place = self.writer.place(message, content_index=len(message["content"]))
            self.writer.event("response.content_part.added", {**self.place, "part": content_of(replace(self.kind, text=""), ())})
        self.texts.append(text)
        entries = [full_logprob(entry) for entry in logprobs]
        self.logprobs += entries
        more = {"logprobs": entries} if isinstance(self.kind, Text) else {}
        self.writer.event(f"response.{self.name}.delta", {**self.place, "delta": text, **more})

    def cite(self, citation: Citation) -> None:
        if self.place:
            told = {"annotation_index": len(self.citations), "annotation": annotation_of(citation, sum(map(len, self.texts)))}
            self.writer.event("response.output_text.annotation.added", {**self.place, **told})
            self.citations.append(citation)

    def sign(self, signature: str) -> None:
        """No provider signs its words."""

    def end(self) -> None:
        if not self.place:
            return
        whole = replace(self.kind, text="".join(self.texts))
        content = content_of(whole, ())
        more: dict[str, Any] = {"refusal": whole.text}
        if isinstance(whole, Text):
            content = output_text(whole.text, self.citations, self.logprobs)
            more = {"text": whole.text, "logprobs": self.logprobs}
        self.writer.event(f"response.{self.name}.done", {**self.place, **more})
        self.writer.event("response.content_part.done", {**self.place, "part": content})
        self.writer.open_message()["content"].append(content)


class OpenThinking:
    """Thoughts, as the one paragraph of a summary: a client that sends them back must not change what is signed."""

    def __init__(self, writer: Writer, part: Thinking) -> None:
        self.writer, self.part = writer, part
        self.item: dict[str, Any] | None = None
        self.place: dict[str, Any] = {}
        self.texts: list[str] = []
        if part.text:
            self.write(part.text)

    def open(self) -> dict[str, Any]:
        if self.item is None:
            self.item = {"id": new_id("rs"), **reasoning_item("", None)}
            self.writer.add(self.item)
        return self.item

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        if not self.place:
            self.place = self.writer.place(self.open(), summary_index=0)
            self.writer.event("response.reasoning_summary_part.added", {**self.place, "part": {"type": "summary_text", "text": ""}})
        self.texts.append(text)
        self.writer.event("response.reasoning_summary_text.delta", {**self.place, "delta": text})

    def sign(self, signature: str) -> None:
        self.part = replace(self.part, signature=(self.part.signature or "") + signature)

    def end(self) -> None:
        text, sealed = "".join(self.texts), seal(self.part.origin, self.part.signature, self.part.redacted)
        if not text and not sealed:
            return
        item = self.open()
        if text:
            self.writer.event("response.reasoning_summary_text.done", {**self.place, "text": text})
            self.writer.event("response.reasoning_summary_part.done", {**self.place, "part": {"type": "summary_text", "text": text}})
        self.writer.done({"id": item["id"], **reasoning_item(text, sealed)})


class OpenCall:
    """A call of the client's tool. It waits for its first argument, because a signature has to stand in an item before it."""

    def __init__(self, writer: Writer, part: ToolCall, custom: frozenset[str]) -> None:
        self.writer, self.call, self.custom = writer, replace(part, arguments=""), custom
        self.free = part.custom or part.name in custom
        self.field, self.name = ("input", "custom_tool_call_input") if self.free else ("arguments", "function_call_arguments")
        self.item: dict[str, Any] | None = None
        self.texts: list[str] = []
        if part.arguments:
            self.write(part.arguments)

    def open(self) -> dict[str, Any]:
        if self.item is None:
            *before, item = signed_call(self.call, self.custom)
            for signature in before:
                self.writer.add_whole(signature)
            self.item = {**item, "status": "in_progress", self.field: ""}
            self.writer.add(self.item)
        return self.item

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        """A custom tool's text that comes wrapped in JSON is unwrapped when all of it is there."""
        self.texts.append(text)
        if text and (self.call.custom or not self.free):
            self.writer.event(f"response.{self.name}.delta", {**self.writer.place(self.open()), "delta": text})

    def sign(self, signature: str) -> None:
        self.call = replace(self.call, signature=(self.call.signature or "") + signature)

    def end(self) -> None:
        item = self.open()
        whole = answer_item(replace(self.call, arguments="".join(self.texts)), self.custom)
        told, place = whole[self.field], self.writer.place(item)
        if told and (not any(self.texts) or (self.free and not self.call.custom)):
            self.writer.event(f"response.{self.name}.delta", {**place, "delta": told})
        self.writer.event(f"response.{self.name}.done", {**place, self.field: told})
        self.writer.done({**whole, "id": item["id"]})
