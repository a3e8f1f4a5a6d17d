"""Ids of objects in a Google account that generateContent and embedding requests contain.

See ai.google.dev/api/generate-content. Responses do not issue such ids.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from proxy.formats.account_ids import AccountIdFields

KINDS = {
    "cachedcontent": "cached_content",
    "fileuri": "stored_file",
    "filesearchstorenames": "file_search_store",
    "datastore": "data_store",
    "engine": "data_store",
    "ragcorpora": "rag_corpus",
    "ragcorpus": "rag_corpus",
    "ragfileids": "rag_corpus",
    "apikeysecret": "secret",
    "apikeysecretversion": "secret",
    "serviceaccount": "service_account",
}
"""Maps each field that contains an id to the kind of object that the id names.

The fields are those of the SDK `google-genai` for the Gemini API and Vertex AI, in lower case and without
underscores.
"""
SCHEMAS = frozenset({"parametersjsonschema", "responseschema", "responsejsonschema", "schema"})
FREE = SCHEMAS | {"args", "response", "parameters"}
PUBLIC_SCHEMES = ("http", "https")
GOOGLES_APIS = "googleapis.com"
PUBLIC_STORAGE = "storage.googleapis.com"
STORED_FILE = re.compile(r"/v1[a-z0-9]*/files/[a-z0-9-]{1,40}(?![^:])")
"""The path of a file in the Files API, on any host (ai.google.dev/api/files)."""


def counts(kind: str, id: str, _holder: dict[str, Any]) -> bool:
    return kind != "stored_file" or not is_public(id)


def is_public(uri: str) -> bool:
    """Return whether anybody can fetch the file at this URI, for example a web page or a YouTube video.

    See ai.google.dev/gemini-api/docs/file-input-methods. A URI `files/...` is a file in the Files API. Google
    reads a `gs://` URI with the rights of the account: on Vertex AI through the account's service agent, and
    in the Gemini API as a file that was registered for the account. A file with any other unknown scheme is
    assumed to belong to the account.
    """
    try:
        parts = urlsplit(uri.strip())
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    of_google = host == GOOGLES_APIS or (host.endswith(f".{GOOGLES_APIS}") and host != PUBLIC_STORAGE)
    of_account = of_google or STORED_FILE.search(parts.path) is not None
    return parts.scheme in PUBLIC_SCHEMES and bool(host) and not of_account


ACCOUNT_ID_FIELDS = AccountIdFields(KINDS, FREE, counts)
