"""Values that satisfy a JSON schema: the arguments with which the scripted model calls a tool."""

from typing import Any

COMMAND_NAMES = ("command", "cmd", "script")


def sample(schema: dict[str, Any], command: str, number: int) -> Any:
    """Return a value of `schema` with its required properties, or all of them if none is required.

    `command` is the value of a property that takes a command.
    """
    return Sampler(schema, command, number).value(schema)


class Sampler:
    """Fills a schema. `root` resolves references; `number` makes the arguments of calls differ."""

    def __init__(self, root: dict[str, Any], command: str, number: int) -> None:
        self.root, self.command, self.number = root, command, number

    def value(self, schema: dict[str, Any], name: str = "") -> Any:
        schema = self.resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        match type_of(schema):
            case "object":
                return self.object(schema)
            case "array":
                return self.array(schema, name)
            case "integer" | "number":
                return 20 + self.number
            case "boolean":
                return False
            case _:
                return self.command if name in COMMAND_NAMES else f"{name or 'text'} “é” {self.number}"

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema behind a reference, or the first alternative that is not null."""
        if reference := schema.get("$ref"):
            target: Any = self.root
            for key in reference.removeprefix("#/").split("/"):
                target = target[key]
            return self.resolved(target)
        for key in ("anyOf", "oneOf", "allOf"):
            for option in schema.get(key, ()):
                if type_of(option) != "null":
                    return self.resolved(option)
        return schema

    def object(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        commands = [name for name in properties if name in COMMAND_NAMES]
        wanted = schema.get("required") or commands or list(properties)
        return {name: self.value(properties.get(name, {}), name) for name in wanted}

    def array(self, schema: dict[str, Any], name: str) -> list[Any]:
        if name in COMMAND_NAMES:
            return ["bash", "-lc", self.command]
        return [self.value(schema.get("items", {}), name)] * max(1, schema.get("minItems", 0))


def type_of(schema: dict[str, Any]) -> str:
    """Return the JSON type in lower case; of several types, the first one that is not null."""
    kind = schema.get("type") or ("object" if "properties" in schema else "")
    kinds = kind if isinstance(kind, list) else [kind]
    return next((str(each).lower() for each in kinds if str(each).lower() != "null"), "null")
