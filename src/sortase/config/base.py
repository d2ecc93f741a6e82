"""The common base of all sections: frozen, no unknown keys, no credentials."""

from numbers import Integral
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from ..redact import credentials_in

LABEL = "label of the data"


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Integral) else value


# Numbers are the label of that text; truth values are those of a column of truth values.
Label = Annotated[str, BeforeValidator(_text), LABEL]
LabelValue = Annotated[Any, LABEL]


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    @classmethod
    def annotation_of(cls, key: str) -> Any:
        """The type of a setting; None for what is not known."""
        return cls.model_fields[key].annotation if key in cls.model_fields else None

    @model_validator(mode="before")
    @classmethod
    def _ordered(cls, values: Any) -> Any:
        """Sets as lists in an order of their own: that of a set is another one in each process."""
        return _listed(values)

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, values: Any) -> Any:
        """Refused before anything else is said about the values, because its words would show them."""
        found = next(credentials_in(values), None)
        if found is not None:
            raise ValueError(
                f"{found}, which has no place in a configuration: that is stored with the run. Set it in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, HF_TOKEN, ...), or mount a secret"
            )
        return values


def _listed(values: Any) -> Any:
    if isinstance(values, set | frozenset):
        return sorted((_listed(value) for value in values), key=lambda value: (type(value).__name__, repr(value)))
    if isinstance(values, dict):
        return {key: _listed(value) for key, value in values.items()}
    return [_listed(value) for value in values] if type(values) is list else values
