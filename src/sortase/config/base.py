"""The common base of all sections: frozen, no unknown keys, no credentials."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from ..redact import credentials_in


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

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
