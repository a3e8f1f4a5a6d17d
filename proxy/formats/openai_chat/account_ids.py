"""Objects of an OpenAI account in chat completions (platform.openai.com/docs/api-reference/chat)."""

from typing import Any

import msgspec

from proxy.formats.account_ids import CollectingReader, Vocabulary
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
"""Fields of both of OpenAI's formats, in the types of the SDK `is_openai_model`. A `connector_id` is not among them:
it names a service that everybody may use with a token of its own."""
OPENAI_FREE = frozenset({"parameters", "schema", "jsonschema", "inputschema", "outputschema", "arguments"})
OWN_SKILLS = "openai-"
"""How ids of OpenAI's own skills begin (developers.openai.com/api/docs/guides/tools-skills)."""


def counts(kind: str, id: str, _holder: dict[str, Any]) -> bool:
    return not (kind == "skill" and id.startswith(OWN_SKILLS))


KINDS = OPENAI_KINDS | {"audio": "audio", "voice": "voice"}
VOCABULARY = Vocabulary(KINDS, OPENAI_FREE | {"function", "functioncall"}, counts)


class Sound(msgspec.Struct):
    id: Any = None
    expires_at: Any = None


class Message(msgspec.Struct):
    audio: Sound | None = None


class Choice(msgspec.Struct):
    message: Message | None = None
    delta: Message | None = None


class Answer(msgspec.Struct):
    choices: list[Choice] | None = None


decode_answer = msgspec.json.Decoder(Answer).decode


class ChatIdReader(CollectingReader):
    """Reads answers with sound, whose `audio.id` a later request can name.

    It works until `expires_at` (the SDK's type ChatCompletionAudio: "when this audio response will no
    longer be accessible on the server"). In a stream the id comes in one chunk and its expiry in a later
    one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[int, Any] = {}

    def read_answer(self, body: bytes) -> None:
        if b'"audio"' not in body:
            return
        try:
            answer = decode_lenient(decode_answer, body)
        except DECODE_ERRORS:
            return
        for position, choice in enumerate(answer.choices or ()):
            said = choice.message or choice.delta
            if said is not None and said.audio is not None:
                self.hear(position, said.audio)

    def hear(self, position: int, sound: Sound) -> None:
        id = self.ids[position] = sound.id or self.ids.get(position)
        self.add("audio", id, until=sound.expires_at)

    def read_event(self, event: bytes) -> None:
        if b'"audio"' in event:
            self.read_answer(event_data(event))
