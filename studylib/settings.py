"""The base of all settings: frozen, unknown names refused, one line of complaint."""

from pydantic import BaseModel, ConfigDict, ValidationError

from studylib.errors import StudyError


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
        return f"unknown setting {where!r}; see studylib/config.py for the settings there are"
    return f"setting {where!r}: {problem['msg'].lower()} (given {problem.get('input')!r}); change its value"
