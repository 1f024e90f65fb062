"""The base of all settings: frozen, unknown names refused, one line of complaint."""

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
        raise StudyError(first_complaint(error)) from None


def first_complaint(error: ValidationError) -> str:
    """One line that names the setting, its value and what is allowed."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {shown(where)}; see studylib/config.py for the settings there are"
    if not where:  # several settings that do not go together
        says = problem["msg"].removeprefix("Value error, ")
        return f"{says} (given {shown(problem.get('input'))}); change one of them"
    return f"setting {where!r}: {problem['msg'].lower()} (given {shown(problem.get('input'))}); change its value"
