"""Writer of events of the Responses API's stream, which also collects the output."""

import time
from typing import Any

from proxy.formats.json_body import encode
from proxy.formats.neutral import ApiError, FinishReason, Usage
from proxy.formats.openai_responses.content import new_id
from proxy.formats.openai_responses.errors import render_error_data
from proxy.formats.openai_responses.response import Status, render_message_item, render_status
from proxy.formats.openai_responses.usage import render_usage
from proxy.formats.provider_errors import CONTEXT_LENGTH_CODE

ERROR_CODE_BY_KIND = {"rate_limit": "rate_limit_exceeded", "invalid_request": "invalid_prompt"}
"""Maps error kinds to the codes of a failed response.

The code for all other kinds is `server_error` (docs/api-reference/responses/object, `error.code`).
"""


class EventWriter:
    """Writes numbered events and collects the items of the output.

    `output` holds the finished items. The index of the open item is the length of `output`.
    """

    def __init__(self, response: dict[str, Any]) -> None:
        self.response = response
        self.output: list[dict[str, Any]] = []
        self.sequence_number = 0
        self.pending: list[bytes] = []
        self.message: dict[str, Any] | None = None
        self.emit("response.created", {"response": response})
        self.emit("response.in_progress", {"response": response})

    def take_bytes(self) -> bytes:
        data, self.pending = b"".join(self.pending), []
        return data

    def emit(self, kind: str, fields: dict[str, Any]) -> None:
        data = encode({"type": kind, "sequence_number": self.sequence_number, **fields})
        self.pending.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        self.sequence_number += 1

    def item_position(self, item: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": len(self.output), **more}

    def start_item(self, item: dict[str, Any]) -> None:
        self.close_message("completed")
        self.emit("response.output_item.added", {"output_index": len(self.output), "item": item})

    def finish_item(self, item: dict[str, Any]) -> None:
        self.emit("response.output_item.done", {"output_index": len(self.output), "item": item})
        self.output.append(item)

    def write_item(self, item: dict[str, Any]) -> None:
        self.start_item(item)
        self.finish_item(item)

    def get_or_open_message(self) -> dict[str, Any]:
        """Return the open message, or open one. Consecutive texts belong to the same message."""
        if self.message is None:
            message = render_message_item(new_id("msg"), [], "in_progress")
            self.start_item(message)
            self.message = message
        return self.message

    def close_message(self, status: Status) -> None:
        if self.message is not None:
            message, self.message = self.message, None
            self.finish_item({**message, "status": status})

    def finish(self, finish_reason: FinishReason, usage: Usage | None) -> None:
        status, details = render_status(finish_reason)
        self.close_message(status)
        self.emit_final_response(status, {"incomplete_details": details}, usage)

    def fail(self, api_error: ApiError, usage: Usage | None, request_id: str) -> None:
        """Write an error event and then the event of a failed response, like OpenAI."""
        error = render_error_data(api_error, request_id, self.sequence_number)
        self.pending.append(b"event: error\ndata: %b\n\n" % encode(error))
        self.sequence_number += 1
        is_too_long = api_error.code == CONTEXT_LENGTH_CODE
        code = api_error.code if is_too_long else ERROR_CODE_BY_KIND.get(api_error.kind, "server_error")
        failure = {"code": code, "message": error["message"]}
        self.emit_final_response("failed", {"error": failure}, usage)

    def emit_final_response(self, status: Status, fields: dict[str, Any], usage: Usage | None) -> None:
        completed_at = {"completed_at": int(time.time())} if status == "completed" else {}
        response = {
            **self.response,
            "status": status,
            **completed_at,
            "output": self.output,
            "usage": render_usage(usage),
            **fields,
        }
        self.emit(f"response.{status}", {"response": response})
