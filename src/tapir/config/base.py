"""What all sections of a configuration share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tapir.config_text import holds_number

Fraction = Annotated[float, Field(ge=0, le=1)]

NonNegative = Annotated[float, Field(ge=0)]

Text = Annotated[str, Field(min_length=1)]


class Config(BaseModel):
    """The root of all settings: unknown names are errors, values do not change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_switch_is_a_number(cls, given: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            if isinstance(given.get(name), bool) and holds_number(field.annotation):
                raise ValueError(f"{name} is a number, not {str(given[name]).lower()}; write its digits")
        return given
