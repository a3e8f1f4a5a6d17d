"""Ids of objects in an OpenAI account that requests and responses of the Responses API contain.

OpenAI keeps responses and their items for at least 30 days (the field `store` in the SDK's types), and
conversations and their items without a limit (developers.openai.com/api/docs/guides/conversation-state). It
keeps a container of the code interpreter for 20 minutes after its last use
(docs/guides/tools-code-interpreter). Clients keep the container's id in their history for longer. The gateway
therefore remembers the id for 30 days after its last use. Otherwise, the gateway would reject the id as
unknown, and the client would not learn from OpenAI that the container has expired.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.formats.account_ids import (
    MONTH_S,
    RESPONSE,
    AccountIdFields,
    AccountReference,
    CollectingReader,
    id_of,
    references_in,
)
from proxy.formats.json_body import DECODE_ERRORS, decode_lenient
from proxy.formats.openai_chat.account_ids import OPENAI_FREE, OPENAI_KINDS, counts
from proxy.formats.openai_responses.content import is_own_id
from proxy.formats.streaming.sse import event_data

STORED_KINDS = {"previousresponseid": RESPONSE, "conversation": "conversation", "prompt": "prompt"}
STORED = AccountIdFields(STORED_KINDS, frozenset(), counts)
ACCOUNT_ID_FIELDS = AccountIdFields(OPENAI_KINDS, OPENAI_FREE, counts)
CONTENT_OF = {
    "message": "content",
    "function_call": "arguments",
    "function_call_output": "output",
    "custom_tool_call": "input",
    "custom_tool_call_output": "output",
    "local_shell_call": "action",
    "local_shell_call_output": "output",
    "shell_call": "action",
    "shell_call_output": "output",
    "apply_patch_call": "operation",
    "apply_patch_call_output": "status",
    "computer_call_output": "output",
    "tool_search_output": "tools",
    "mcp_approval_response": "approval_request_id",
    "reasoning": "encrypted_content",
    "compaction": "encrypted_content",
}
"""Item types whose items contain their content, each with the field that holds the content.

If an item has another type, or lacks this field, OpenAI looks up its content by its id. For a reasoning item
that it has not stored, OpenAI reports "Item with id 'rs_...' not found"
(github.com/home-assistant/core/issues/150251). To edit an image, a client sends the id of the call that
generated it (docs/guides/image-generation, multi-turn editing).
"""
READ = re.compile(
    rb'"response\.(created|queued|in_progress|output_item\.done|completed|incomplete|failed|cancelled)"'
)
CITATIONS = ("container_file_citation", "file_path")


class Response(msgspec.Struct):
    id: Any = None
    output: Any = None
    conversation: Any = None


class Event(msgspec.Struct):
    type: str = ""
    response: Response | None = None
    item: Any = None


decode_response = msgspec.json.Decoder(Response).decode
decode_event = msgspec.json.Decoder(Event).decode


def stored_references(fields: Mapping[str, Any]) -> list[AccountReference]:
    """Return the references to stored responses, conversations and prompts in a request."""
    return references_in([fields], STORED)


def item_references(items: Any) -> list[AccountReference]:
    """Return references to the items of an input whose content OpenAI must look up."""
    objects = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    named = [(id_of(item), item) for item in objects]
    return [
        AccountReference("item", str(id), "input")
        for id, item in named
        if id and is_looked_up(item) and not is_left_out(item)
    ]


def is_looked_up(item: dict[str, Any]) -> bool:
    """Return whether OpenAI looks up the item's content by its id."""
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    content = CONTENT_OF.get(str(kind))
    return content is None or not item.get(content)


def is_left_out(item: dict[str, Any]) -> bool:
    """Return whether the gateway removes an item from the request, because OpenAI does not know its id."""
    return is_own_id(item.get("id")) and item.get("type") == "reasoning"


class ResponsesIdReader(CollectingReader):
    """Reads the ids that a response contains.

    `can_be_named` says whether a later request can refer to the response and its items, because OpenAI stores
    them. Otherwise, the reader keeps only ids that come back with the history: those of items without their
    content, of containers and of files.
    """

    def __init__(self, *, can_be_named: bool) -> None:
        super().__init__()
        self.can_be_named = self.issues_responses = can_be_named

    def read_response(self, body: bytes) -> None:
        try:
            self.read(decode_lenient(decode_response, body))
        except DECODE_ERRORS:
            return

    def read_event(self, event: bytes) -> None:
        """Read one event.

        The id of an item is in the event that ends the item, and again in the final event.
        """
        if not READ.search(event):
            return
        try:
            parsed = decode_lenient(decode_event, event_data(event))
        except DECODE_ERRORS:
            return
        if parsed.response is not None:
            self.read(parsed.response)
        if parsed.type == "response.output_item.done":
            self.read_item(parsed.item, MONTH_S)

    def read(self, response: Response) -> None:
        given = response.conversation
        conversation = id_of(given) if isinstance(given, dict) else given
        kept_s = None if conversation else MONTH_S
        if self.can_be_named:
            self.add(RESPONSE, response.id)
            self.add("conversation", conversation, None)
        for item in response.output if isinstance(response.output, list) else ():
            self.read_item(item, kept_s)

    def read_item(self, item: Any, kept_s: int | None) -> None:
        if not isinstance(item, dict):
            return
        if self.can_be_named or is_looked_up(item):
            self.add("item", item.get("id"), kept_s)
        match item:
            case {"type": "code_interpreter_call"}:
                self.add("container", item.get("container_id"))
            case {"type": "shell_call", "environment": {"type": "container_reference", "container_id": id}}:
                self.add("container", id)
            case {"type": "message", "content": list(parts)}:
                self.read_citations(parts)

    def read_citations(self, parts: list[Any]) -> None:
        """Add the ids of files that code has written. They are in the annotations of texts."""
        lists = [part.get("annotations") for part in parts if isinstance(part, dict)]
        for annotation in [annotation for notes in lists if isinstance(notes, list) for annotation in notes]:
            if isinstance(annotation, dict) and annotation.get("type") in CITATIONS:
                self.add("file", annotation.get("file_id"))
                self.add("container", annotation.get("container_id"))
