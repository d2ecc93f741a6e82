"""The common base of all sections: frozen, no unknown keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
