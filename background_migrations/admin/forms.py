"""The controls of a background migration as a form; an empty field is the default."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from django import forms
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from background_migrations.arguments import HELP_OF_CONTROLS
from background_migrations.services import CONTROLS

TIME_FORMAT = "%Y-%m-%d %H:%M"
SWITCH = (("", "default"), ("true", "yes"), ("false", "no"))


def _number(kind: type[forms.IntegerField] | type[forms.FloatField]) -> Callable[[str], forms.Field]:
    """Return what makes the field; the service knows the bounds."""

    def field(_name: str) -> forms.Field:
        widget = UnfoldAdminTextInputWidget(attrs={"placeholder": "default", "inputmode": "decimal"})
        return kind(widget=widget, required=False)

    return field


def _switch(_name: str) -> forms.Field:
    return forms.TypedChoiceField(
        choices=SWITCH,
        coerce=lambda text: text == "true",
        empty_value=None,
        widget=UnfoldAdminSelectWidget(choices=SWITCH),
        required=False,
    )


def _time(_name: str) -> forms.Field:
    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-01 20:00"})
    return forms.DateTimeField(widget=widget, required=False)


FIELDS: Mapping[type, Callable[[str], forms.Field]] = {
    int: _number(forms.IntegerField),
    float: _number(forms.FloatField),
    bool: _switch,
    datetime.datetime: _time,
}


class ControlsForm(forms.Form):
    """One field for each control."""

    def __init__(self, data: Mapping[str, Any] | None, *, controls: Mapping[str, Any], editable: bool) -> None:
        super().__init__(data, initial={name: _as_typed(value) for name, value in controls.items()})
        for name, kind in CONTROLS.items():
            field = FIELDS[kind](name)
            field.label, field.help_text = name.replace("_", " "), HELP_OF_CONTROLS[name].removeprefix("true: ")
            field.disabled = not editable
            self.fields[name] = field
        zone = timezone.get_current_timezone_name()
        self.fields["hold_until"].help_text = f"do not work before this time, in {zone}"

    @property
    def changes(self) -> dict[str, Any]:
        """The controls that were typed anew, as the service takes them."""
        return {name: self.cleaned_data[name] for name in self.changed_data}


def _as_typed(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return timezone.localtime(value).strftime(TIME_FORMAT)
    return value
