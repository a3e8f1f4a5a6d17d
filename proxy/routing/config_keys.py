"""Check the names in the operator's YAML file. Each unknown one is reported with its line."""

from collections.abc import Collection

import msgspec
import yaml

from projects.yaml_tree import DocumentReader, Problem
from proxy.models.route_definitions import RuleDefinition, TargetDefinition


def names_of(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names that an entry of the file may contain."""
    return struct.__struct_encode_fields__


def unknown_names(
    text: str, top: Collection[str], account: Collection[str], model: Collection[str]
) -> list[Problem]:
    """Return the problems of the names in a file, in the order of their lines.

    `top`, `account` and `model` are the known names at the top, in entries of `accounts` and of `models`.
    """
    reader = DocumentReader()
    root = reader.root(text)
    values = {} if root is None else reader.entry(root, "the file", top).nodes
    for node in items(reader, values.get("accounts"), "accounts"):
        reader.entry(node, "an account", account)
    for node in items(reader, values.get("models"), "models"):
        check_model(reader, node, model)
    return sorted(reader.problems)


def check_model(reader: DocumentReader, node: yaml.Node, known: Collection[str]) -> None:
    values = reader.entry(node, "a model", known).nodes
    for target in items(reader, values.get("targets"), "targets"):
        reader.entry(target, "a target", names_of(TargetDefinition))
    if rule := values.get("rule"):
        reader.entry(rule, "a rule", names_of(RuleDefinition))


def items(reader: DocumentReader, node: yaml.Node | None, label: str) -> list[yaml.Node]:
    return [] if node is None else reader.sequence(node, label)
