"""Where a run is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section


class ComputeSpec(Section):
    """Where and how precisely it is computed."""

    workers: Literal[0] = Field(0, description="Training processes; 0 is this process.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto is bf16 on GPUs that have it and fp32 elsewhere; bf16 also works on CPUs."
    )
