"""The base of all settings: frozen, unknown names refused, one line of complaint."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer

from studylib.errors import StudyError
from studylib.files import shown

_LATER = {"later": True}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _leave_out_later_defaults(self, dump):
        values = dump(self)
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == _LATER and getattr(self, name) == field.default:
                values.pop(name, None)
        return values


def later(default, **bounds):
    """A field that came after trials had been published: at its default it is not written.

    So a trial that does not use it keeps the description, and the key, that it had before the field was there.
    """
    return Field(default, json_schema_extra=_LATER, **bounds)


def checked(model: type[Settings], values: dict):
    """``model(**values)`` whose complaint is one line."""
    try:
        return model(**values)
    except ValidationError as error:
        raise StudyError(first_complaint(error, model)) from None


def first_complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """One line that names the setting of ``model``, its value and what is allowed."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_settings_at(model, problem["loc"][:-1]))
        near = get_close_matches(str(problem["loc"][-1]), known, 1)
        meant = f"did you mean {near[0]!r}? There are" if near else "there are"
        return f"unknown setting {shown(where)}; {meant} {', '.join(known)}"
    says, given = problem["msg"].removeprefix("Value error, "), shown(problem.get("input"))
    if not where:  # several settings that do not go together
        return f"{says} (given {given}); change one of them"
    return f"setting {where!r}: {says[:1].lower()}{says[1:]} (given {given}); change its value"


def _settings_at(model: type[BaseModel], place: Sequence[str | int]) -> dict:
    """The fields of the settings at the place of an error, in which the choice of a union goes by its name."""
    options = [model]
    for part in place:
        if part in options[0].model_fields:
            options = [kind for kind in _kinds(options[0].model_fields[part].annotation) if issubclass(kind, BaseModel)]
        else:
            options = [kind for kind in options if part in get_args(kind.model_fields["name"].annotation)]
    return options[0].model_fields


def _kinds(annotation) -> list[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _kinds(part)]
