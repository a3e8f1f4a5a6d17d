"""Images, audio, video and documents: data URLs, base64 and media types."""

import base64
import binascii
import mimetypes
import re
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

URL_PREFIXES = ("http://", "https://")
AUDIO_FORMATS = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
}
"""Maps media types of audio to the names that OpenAI uses."""
AUDIO_MEDIA_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav"}
"""Maps OpenAI's names of audio formats to media types."""
MEDIA_TYPE_BY_PREFIX = {
    "iVBORw": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "JVBERi": "application/pdf",
}
"""Maps the first characters of base64 data to the media type of the data."""
RIFF_PREFIX, WEBP_MARK = "UklGR", "RUJQ"
"""The first characters of a RIFF file in base64, and the 13th to 16th characters of a WebP image."""
MEDIA_TYPE_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Media types that clients use, with the names that vendors accept."""
URL_SAFE_BASE64 = str.maketrans("-_", "+/")
DATA_URL = re.compile(r"data:(?P<media_type>[^;,]*)(?P<options>[^,]*),", re.IGNORECASE)


class DataUrl(NamedTuple):
    """Content of a data URL in base64. `media_type` is None if the URL does not contain one."""

    media_type: str | None
    data: str


def parse_data_url(url: str) -> DataUrl | None:
    """Return the content of a data URL, or None for any other URL.

    Percent-encoded content is returned in base64, because vendors accept only base64.
    """
    if (prefix := DATA_URL.match(url)) is None:
        return None
    content = url[prefix.end() :]
    if prefix["options"].lower().endswith(";base64"):
        data = unquote(content) if "%" in content else content
    else:
        data = base64.b64encode(unquote_to_bytes(content)).decode()
    return DataUrl(prefix["media_type"] or None, data)


def data_url(media_type: str, data: str) -> str:
    """Return the data URL of base64 data."""
    return f"data:{media_type};base64,{data}"


def detect_media_type(data: str) -> str | None:
    """Return the media type of base64 data, detected from its first characters; None if it is unknown."""
    if data.startswith(RIFF_PREFIX):
        return "image/webp" if data[12:16] == WEBP_MARK else None
    return next(
        (media_type for prefix, media_type in MEDIA_TYPE_BY_PREFIX.items() if data.startswith(prefix)), None
    )


def guess_media_type(name: str | None) -> str | None:
    """Return the media type that the extension of a file name or URL suggests, or None."""
    return mimetypes.guess_type(name or "")[0]


def is_base64(data: str) -> bool:
    """Return whether the data is valid base64, so that clients can decode it."""
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def decode_base64(data: str) -> bytes:
    """Decode base64 in either alphabet, with or without padding. Raises ValueError."""
    standard = data.translate(URL_SAFE_BASE64).rstrip("=")
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def decode_base64_text(data: str) -> str | None:
    """Return the UTF-8 text that is encoded in base64 data, or None if it is not valid UTF-8."""
    try:
        return base64.b64decode(data).decode()
    except ValueError:
        return None
