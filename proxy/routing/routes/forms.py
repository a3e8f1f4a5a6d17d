"""The form of a project's route. Its targets and conditions are written one per line."""

from typing import Any

import msgspec
from django import forms
from django.core.exceptions import ValidationError

from keys import tokens
from keys.models import ApiKey
from projects.forms import LinesField
from projects.models import Project
from proxy.models import Route
from proxy.models.route_definitions import RouteDefinition
from proxy.routing import config_file
from proxy.routing.accounts import load_accounts, operator_accounts_for
from proxy.routing.routes.builder import build_table, checked, route_from

MAX_LINE_LENGTH = 300
MAX_TARGETS = MAX_FALLBACKS = 16
MAX_ROUTES = 1_000
TARGET_OPTIONS = {"weight": int, "timeout": str}
CAPABILITIES = [("vision", "contain images"), ("tools", "offer tools")]


def lines(label: str, help_text: str, rows: int = 3) -> LinesField:
    widget = forms.Textarea(attrs={"rows": rows})
    return LinesField(
        label=label, help_text=help_text, required=False, max_line_length=MAX_LINE_LENGTH, widget=widget
    )


class RouteForm(forms.ModelForm[Route]):
    target_lines = lines(
        "Targets",
        "One per line: provider/model or credential/model, then optionally weight=3 and timeout=60s.",
        4,
    )
    fallback_lines = lines(
        "Fallbacks", "Models that are called if all targets fail, one per line: a route, or provider/model."
    )
    rule_keys = lines("API keys", "Public ids, one per line. Empty: all keys.", 2)
    rule_headers = lines("Request headers", "One per line: name: value.", 2)
    rule_metadata = lines("Metadata tags", "One per line: name: value.", 2)
    min_input_tokens = forms.IntegerField(min_value=0, required=False, label="Minimum input tokens")
    max_input_tokens = forms.IntegerField(min_value=0, required=False, label="Maximum input tokens")
    capabilities = forms.MultipleChoiceField(
        choices=CAPABILITIES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Only requests that",
    )

    class Meta:
        model = Route
        fields = ("name", "strategy", "retry_attempts", "retry_delay_ms", "retries_context_length")

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = self.instance.project = project
        if self.instance.pk:
            self.initial.update(initial_values(self.instance))

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        if not name.isprintable():
            raise ValidationError("The name contains unprintable characters.")
        if name.startswith(tokens.PREFIX):
            raise ValidationError("The name looks like an API key of the gateway. Choose another name.")
        return name

    def clean_target_lines(self) -> list[dict[str, Any]]:
        targets = [parse_target(line) for line in self.cleaned_data["target_lines"]]
        if len(targets) > MAX_TARGETS:
            raise ValidationError(f"A route has at most {MAX_TARGETS} targets.")
        return targets

    def clean_fallback_lines(self) -> list[str]:
        fallbacks: list[str] = self.cleaned_data["fallback_lines"]
        if len(fallbacks) > MAX_FALLBACKS:
            raise ValidationError(f"A route has at most {MAX_FALLBACKS} fallbacks.")
        return fallbacks

    def clean_rule_keys(self) -> list[str]:
        wanted: list[str] = self.cleaned_data["rule_keys"]
        known = ApiKey.objects.for_project(self.project).filter(public_id__in=wanted)
        if unknown := set(wanted) - set(known.values_list("public_id", flat=True)):
            raise ValidationError(f"This project has no API key {', '.join(sorted(unknown))}.")
        return wanted

    def clean_rule_headers(self) -> dict[str, str]:
        return parse_pairs(self.cleaned_data["rule_headers"])

    def clean_rule_metadata(self) -> dict[str, str]:
        return parse_pairs(self.cleaned_data["rule_metadata"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            self.fill_instance(cleaned)
            self.check_route()
        return cleaned

    def fill_instance(self, cleaned: dict[str, Any]) -> None:
        """Set the fields of the route that the form shows as lines."""
        rule = {
            "keys": cleaned["rule_keys"],
            "headers": cleaned["rule_headers"],
            "metadata": cleaned["rule_metadata"],
            "min_input_tokens": cleaned["min_input_tokens"],
            "max_input_tokens": cleaned["max_input_tokens"],
            "capabilities": cleaned["capabilities"],
        }
        route = self.instance
        route.targets, route.fallbacks = cleaned["target_lines"], cleaned["fallback_lines"]
        route.rule = {name: value for name, value in rule.items() if value}
        for name in self.Meta.fields:
            setattr(route, name, cleaned[name])

    def check_route(self) -> None:
        """Add an error for each reason why the route cannot work."""
        try:
            definition = self.instance.definition()
        except msgspec.ValidationError as error:
            self.add_error(None, str(error))
            return
        others = list(Route.objects.for_project(self.project).exclude(pk=self.instance.pk))
        if len(others) >= MAX_ROUTES:
            self.add_error(None, f"A project has at most {MAX_ROUTES:,} routes.")
        if any(other.name == self.instance.name and other.rule == self.instance.rule for other in others):
            self.add_error("name", "This project already has a route with this name and the same rule.")
        for problem in route_problems(self.project, definition, [other.definition() for other in others]):
            self.add_error(None, problem)


def route_problems(
    project: Project, definition: RouteDefinition, others: list[RouteDefinition]
) -> tuple[str, ...]:
    """Return why a route cannot work together with the other routes of its project."""
    table = build_table(
        [*others, definition], load_accounts(project.pk), operator_accounts_for(project), config_file.load()
    )
    return checked(table, route_from(table, definition, is_projects=True)).problems


def parse_target(line: str) -> dict[str, Any]:
    """Return the target of a line such as `openai/gpt-6-luna weight=3 timeout=60s`."""
    place, *options = line.split()
    provider, _, model = place.partition("/")
    target: dict[str, Any] = {"provider": provider, "model": model}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in TARGET_OPTIONS:
            raise ValidationError(f"“{option}” is not weight=NUMBER or timeout=DURATION.")
        try:
            target[name] = TARGET_OPTIONS[name](value)
        except ValueError:
            raise ValidationError(f"“{value}” is not a number.") from None
    return target


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """Return the names and values of lines such as `x-tier: gold`."""
    split = [line.partition(":") for line in pairs]
    if wrong := [name for name, colon, _ in split if not colon or not name.strip()]:
        raise ValidationError(f"“{wrong[0]}” is not written as name: value.")
    return {name.strip(): value.strip() for name, _, value in split}


def initial_values(route: Route) -> dict[str, Any]:
    """Return the values of the fields that the form shows as lines."""
    rule: dict[str, Any] = route.rule
    return {
        "target_lines": [target_line(target) for target in route.targets],
        "fallback_lines": route.fallbacks,
        "rule_keys": rule.get("keys", []),
        "rule_headers": pair_lines(rule.get("headers", {})),
        "rule_metadata": pair_lines(rule.get("metadata", {})),
        "min_input_tokens": rule.get("min_input_tokens"),
        "max_input_tokens": rule.get("max_input_tokens"),
        "capabilities": rule.get("capabilities", []),
    }


def target_line(target: dict[str, Any]) -> str:
    place = f"{target['provider']}/{target['model']}" if target["model"] else target["provider"]
    return " ".join([place, *(f"{name}={target[name]}" for name in TARGET_OPTIONS if name in target)])


def pair_lines(pairs: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in pairs.items()]
