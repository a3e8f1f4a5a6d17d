"""Ids of objects in an OpenAI account that chat completion requests and responses contain."""

from typing import Any

import msgspec

from proxy.formats.account_ids import AccountIdFields, CollectingReader
from proxy.formats.json_body import DECODE_ERRORS, decode_lenient
from proxy.formats.streaming.sse import event_data

OPENAI_KINDS = {
    "fileid": "file",
    "fileids": "file",
    "vectorstoreid": "vector_store",
    "vectorstoreids": "vector_store",
    "container": "container",
    "containerid": "container",
    "skillid": "skill",
    "tunnelid": "tunnel",
    "approvalrequestid": "item",
    "comparisonresponseid": "response",
    # docs.x.ai/docs/guides/using-collections
    "collectionids": "collection",
}
"""Maps each field with an id to the kind of object that the id names, for both OpenAI formats.

The fields are those of OpenAI's SDK, in lower case and without underscores. `connector_id` is not one of
them, because it names a public service, which is used with a token of the client.
"""
OPENAI_FREE = frozenset({"parameters", "schema", "jsonschema", "inputschema", "outputschema", "arguments"})
OWN_SKILLS = "openai-"
"""Prefix of the ids of OpenAI's own skills (developers.openai.com/api/docs/guides/tools-skills)."""


def counts(kind: str, id: str, _holder: dict[str, Any]) -> bool:
    """Return whether an id names an object of the account. OpenAI's own skills are public."""
    return not (kind == "skill" and id.startswith(OWN_SKILLS))


KINDS = OPENAI_KINDS | {"audio": "audio", "voice": "voice"}
ACCOUNT_ID_FIELDS = AccountIdFields(KINDS, OPENAI_FREE | {"function", "functioncall"}, counts)


class Audio(msgspec.Struct):
    id: Any = None
    expires_at: Any = None


class Message(msgspec.Struct):
    audio: Audio | None = None


class Choice(msgspec.Struct):
    message: Message | None = None
    delta: Message | None = None


class Response(msgspec.Struct):
    choices: list[Choice] | None = None


decode_response = msgspec.json.Decoder(Response).decode


class ChatIdReader(CollectingReader):
    """Reads the ids of audio in responses. A later request can name such audio as `audio.id`.

    An id is valid until `expires_at` (the SDK's type ChatCompletionAudio: "when this audio response will no
    longer be accessible on the server"). In a stream, one chunk contains the id, and a later chunk its
    expiry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[int, Any] = {}

    def read_response(self, body: bytes) -> None:
        if b'"audio"' not in body:
            return
        try:
            response = decode_lenient(decode_response, body)
        except DECODE_ERRORS:
            return
        for position, choice in enumerate(response.choices or ()):
            message = choice.message or choice.delta
            if message is not None and message.audio is not None:
                self.read_audio(position, message.audio)

    def read_audio(self, position: int, audio: Audio) -> None:
        id = self.ids[position] = audio.id or self.ids.get(position)
        self.add("audio", id, until=audio.expires_at)

    def read_event(self, event: bytes) -> None:
        if b'"audio"' in event:
            self.read_response(event_data(event))
