"""Ids of objects in an Anthropic account that Messages requests and responses contain.

See platform.claude.com/docs/en/api/messages. Anthropic keeps a container of the code execution tool for 30
days after its creation (docs, "Code execution tool", "Containers"), and a file until it is deleted (docs,
"Files API"). The documentation does not say how long it keeps threads: 30 days are assumed.
"""

from typing import Any

from proxy.formats.account_ids import AccountIdFields, CollectingReader
from proxy.formats.anthropic.wire import MessageIds, decode_event_ids, decode_message_ids
from proxy.formats.json_body import DECODE_ERRORS, decode_lenient
from proxy.formats.streaming.sse import event_data

KINDS = {
    "fileid": "file",
    "fileids": "file",
    "container": "container",
    "containerid": "container",
    "skillid": "skill",
    "previousmessageid": "message",
    "userprofileid": "user_profile",
    "memorystoreid": "memory_store",
}
"""Maps each field that contains an id to the kind of object that the id names.

The fields are those of the SDK `anthropic` (messages and beta), in lower case and without underscores.
"""
FREE = frozenset({"input", "inputschema", "inputexamples", "schema"})
RESULT_TYPE = "code_execution_tool_result"
OUTPUT_TYPE = "code_execution_output"
EVENT_MARKERS = (b'"container"', b"code_execution_output", b'"message_start"')
"""Markers of events that issue ids. Only events that contain one of these bytes are decoded."""
DIAGNOSTICS = "diagnostics"
"""A field of a request.

If a request has this field or `thread`, a later request can refer to its response. The reader then keeps the
id.
"""


def counts(kind: str, _id: str, holder: dict[str, Any]) -> bool:
    """Return whether the object belongs to the account. Anthropic's own skills are public."""
    return not (kind == "skill" and holder.get("type") == "anthropic")


ACCOUNT_ID_FIELDS = AccountIdFields(KINDS, FREE, counts)


class MessagesIdReader(CollectingReader):
    """Collects the ids that a response issues. If `keeps_messages` is true, they include ids of messages."""

    def __init__(self, *, keeps_messages: bool) -> None:
        super().__init__()
        self.keeps_messages = keeps_messages

    def read_response(self, body: bytes) -> None:
        try:
            self.read(decode_lenient(decode_message_ids, body))
        except DECODE_ERRORS:
            return

    def read_event(self, event: bytes) -> None:
        if not any(marker in event for marker in EVENT_MARKERS):
            return
        try:
            parsed = decode_lenient(decode_event_ids, event_data(event))
        except DECODE_ERRORS:
            return
        if parsed.message is not None:
            self.read(parsed.message)
        if parsed.delta is not None:
            self.add_container(parsed.delta.container)
        self.read_block(parsed.content_block)

    def read(self, message: MessageIds) -> None:
        if self.keeps_messages:
            self.add("message", message.id)
        self.add_container(message.container)
        for block in message.content if isinstance(message.content, list) else ():
            self.read_block(block)

    def add_container(self, container: Any) -> None:
        self.add("container", container.get("id") if isinstance(container, dict) else container)

    def read_block(self, block: Any) -> None:
        """Add the ids of files that code has written. They are in results of the code execution tool."""
        match block:
            case {"type": str(kind), "content": {"content": list(outputs)}} if kind.endswith(RESULT_TYPE):
                for output in outputs:
                    if isinstance(output, dict) and str(output.get("type")).endswith(OUTPUT_TYPE):
                        self.add("file", output.get("file_id"), None)
