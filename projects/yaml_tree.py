"""Reads a YAML document with the line of each value, and collects all its problems."""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A reason why a document cannot be applied, and its line."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping of the document. `label` says what it describes, and `nodes` are its values by name."""

    label: str
    line: int
    nodes: dict[str, yaml.Node]

    def line_of(self, name: str) -> int:
        """Return the line of a value, or that of the entry if it does not have the value."""
        return line_of(self.nodes[name]) if name in self.nodes else self.line


class DocumentReader:
    """Reads nodes of a YAML document. A value of a wrong type is a problem, and is read as empty."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add_problem(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, text))

    def root(self, text: str) -> yaml.Node | None:
        """Return the top node of a document; None if it is empty or not valid YAML."""
        try:
            return yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self.add_problem(line, f"this is not valid YAML: {error.problem}.")
        except yaml.YAMLError as error:
            self.add_problem(1, f"this is not valid YAML: {error}.")
        return None

    def mapping(self, node: yaml.Node, label: str) -> dict[str, yaml.Node]:
        """Return the values of a mapping by name."""
        if is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.add_problem(line_of(node), f"{label}: names with values are expected here.")
            return {}
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self.add_problem(line_of(name), f"{label}: a name must be a text.")
            elif name.value in found:
                self.add_problem(line_of(name), f"{label}: {name.value} is there twice.")
            else:
                found[name.value] = value
        return found

    def entry(self, node: yaml.Node, label: str, known: Collection[str]) -> Entry:
        """Return a mapping whose names are known. Each unknown name is a problem."""
        values = self.mapping(node, label)
        for name in values.keys() - set(known):
            nearest = get_close_matches(name, known, 1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(known)}."
            self.add_problem(line_of(values[name]), f"{label}: {name} is not known. {hint}")
        return Entry(label, line_of(node), values)

    def sequence(self, node: yaml.Node, label: str) -> list[yaml.Node]:
        """Return the items of a list."""
        if is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.add_problem(line_of(node), f"{label}: a list is expected here.")
            return []
        return list(node.value)

    def plain(self, node: yaml.Node, label: str) -> Any:
        """Return a value as Python objects; None if it cannot be read."""
        try:
            return yaml.SafeLoader("").construct_document(node)
        except (yaml.YAMLError, ValueError) as error:
            self.add_problem(line_of(node), f"{label}: this value cannot be read: {error}.")
            return None


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")
