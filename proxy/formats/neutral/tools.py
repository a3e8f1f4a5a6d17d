"""Tools and the choice among them, in terms that vendors share."""

from typing import Any, ClassVar, Literal

from proxy.formats.neutral.content import Frozen, Origin


class UserLocation(Frozen, frozen=True, kw_only=True):
    """The approximate place of the user. Fields that are not known are empty."""

    city: str = ""
    region: str = ""
    country: str = ""
    timezone: str = ""


class WebSearch(Frozen, frozen=True, kw_only=True):
    """Search of the web by the provider.

    `max_uses` limits the searches of a response; `context_size` is OpenAI's low, medium or high.
    """

    kind: ClassVar[str] = "web_search"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    user_location: UserLocation | None = None
    search_context_size: str = ""


class WebFetch(Frozen, frozen=True, kw_only=True):
    """Reading of web pages whose addresses stand in the conversation."""

    kind: ClassVar[str] = "web_fetch"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    max_content_tokens: int | None = None


class CodeExecution(Frozen, frozen=True, kw_only=True):
    """Running of code that the model writes, in a new container of the provider."""

    kind: ClassVar[str] = "code_execution"
    max_uses: int | None = None


SharedTool = WebSearch | WebFetch | CodeExecution


class VendorTool(Frozen, frozen=True, kw_only=True):
    """The vendor's own declaration of a tool of the client, if it is not a plain function.

    Either `kind` is a type that the vendor has a schema for, such as Anthropic's bash; or the tool is the
    member `name` of a namespace or toolset, the `group`. `value` is the declaration, which all members of a
    group share.
    """

    origin: Origin
    kind: str
    value: Any
    group: str = ""
    name: str = ""


class Tool(Frozen, frozen=True, kw_only=True):
    """A tool that the client runs. `schema` is JSON Schema; a `custom` tool takes free text and has none.

    `vendor` is its declaration, if the client's vendor has a type or a group of its own for it.
    """

    name: str
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    cache: str | None = None
    vendor: VendorTool | None = None


class ServerTool(Frozen, frozen=True, kw_only=True):
    """A tool that the provider runs. Only its origin understands `value`; `kind` is its type.

    `shared` is what it means to the vendors that run the same tool, `unshared` the names of its settings that
    only its origin has. Other formats reject a tool that names data of the caller (`is_caller_data`).
    """

    origin: Origin
    kind: str
    value: Any
    shared: SharedTool | None = None
    unshared: tuple[str, ...] = ()
    is_caller_data: bool = False


class ToolChoice(Frozen, frozen=True, kw_only=True):
    """The choice among tools.

    If the mode is required, `names` and the server tools of these kinds are the only ones that may be called.
    """

    mode: Literal["auto", "required", "none"] = "auto"
    names: tuple[str, ...] = ()
    server_kinds: tuple[str, ...] = ()
