"""Base classes of serializers: names in camel case, amounts, and bodies that forms validate."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from django import forms
from django.core.validators import RegexValidator
from rest_framework import serializers
from rest_framework.fields import Field, SerializerMethodField

from billing.money import decimal_usd
from gateway_project.api.envelope import InvalidFields

FormT = TypeVar("FormT", bound=forms.BaseForm)
ONE_LINE = r"^[^\r\n]*$"
GENERAL = "__all__"
"""Django's name for errors that belong to no field."""


def camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Serializer(serializers.Serializer):
    """A serializer whose fields are declared in snake case and rendered in camel case."""

    def get_fields(self) -> dict[str, Field]:
        """Return the fields by their names in camel case."""
        return {camel_case(name): sourced(field, name) for name, field in super().get_fields().items()}


class Input(Serializer):
    """A request body. The `source` of each field is the name of the form field that validates it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the values by their sources. Raises ValidationError, also for unknown fields."""
        if unknown := sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []:
            known = ", ".join(self.fields)
            raise serializers.ValidationError({name: [f"Unknown field. Known: {known}."] for name in unknown})
        values: dict[str, Any] = super().to_internal_value(data)
        return values

    def submit(self, form_class: Callable[..., FormT], **arguments: Any) -> FormT:
        """Return a valid form with the values of the body.

        Fields that the body does not have keep their initial values, which are those of the form's instance.
        Raises InvalidFields.
        """
        initial = form_class(**arguments)
        data = {bound.name: bound.value() for bound in initial}
        for name, value in self.validated_data.items():
            if name in initial.fields:
                data[name] = initial.fields[name].prepare_value(form_text(value))
        form = form_class(data, **arguments)
        if not form.is_valid():
            raise InvalidFields(self.errors_of(form))
        return form

    def names_by_source(self) -> Iterator[tuple[str, str]]:
        """Yield the form's field and the name of each field, such as `rule_keys` and `rule.keys`."""
        for name, field in self.fields.items():
            if isinstance(field, Input):
                yield from ((source, f"{name}.{inner}") for source, inner in field.names_by_source())
            else:
                yield field.source, name

    def errors_of(self, form: forms.BaseForm) -> dict[str, list[str]]:
        """Return the errors of a form by the names that the fields have in the body."""
        names = dict(self.names_by_source())
        return {
            "" if field == GENERAL else names.get(field, camel_case(field)): [str(text) for text in texts]
            for field, texts in form.errors.items()
        }


class UsdField(serializers.DecimalField):
    """An amount in US dollars in a body: a JSON number or a text with at most nine decimal places."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=19, decimal_places=9, min_value=0, coerce_to_string=False, **kwargs)


class UsdOutput(serializers.DecimalField):
    """An amount of nano-USD, rendered as an exact number of US dollars."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=28, decimal_places=9, read_only=True, coerce_to_string=False, **kwargs)

    def to_representation(self, value: int) -> Decimal:
        """Return the amount without trailing zeros."""
        return Decimal(decimal_usd(value))


class Text(serializers.CharField):
    """A JSON string. Numbers are not texts."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid")
        text: str = super().to_internal_value(data)
        return text


class PatternText(Text):
    """A JSON string that matches a regular expression."""

    def __init__(self, pattern: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.append(RegexValidator(pattern, message="A character is not allowed here."))


class Integer(serializers.IntegerField):
    """A JSON number without a fraction. Texts are not numbers."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number. Raises ValidationError."""
        if type(data) is not int:
            self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


class Flag(serializers.BooleanField):
    """JSON's true or false. Other values that could be read as one, such as texts, are not accepted."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value. Raises ValidationError."""
        if data is True or data is False:
            return bool(data)
        return bool(self.fail("invalid", input=data))


class TextList(serializers.ListField):
    """A list of texts, each of which is one line of a form's field."""

    def __init__(self, **kwargs: Any) -> None:
        child = PatternText(ONE_LINE, max_length=500)
        super().__init__(child=child, max_length=1000, **kwargs)


def sourced(field: Field, name: str) -> Field:
    """Let a field with a name in camel case read the attribute with the same name in snake case."""
    if isinstance(field, SerializerMethodField):
        field.method_name = field.method_name or f"get_{name}"
    elif field.source is None and camel_case(name) != name:
        field.source = name
    return field


def form_text(value: Any) -> Any:
    """Return a value as a browser sends it. Amounts have no exponent, because forms do not parse one."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return sorted(value) if isinstance(value, set) else value
