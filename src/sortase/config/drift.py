"""How far new data may lie from those that the champion was made from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section


class DriftSpec(Section):
    """Limits of the drift between two generations of data; null for no limit.

    What sampling alone explains does not count: a small dataset differs from a large one by chance, and rare classes
    come and go. Of 100 pairs of samples from one population about one passes a limit.
    """

    action: Literal["warn", "refuse"] = Field(
        "warn", description="Beyond a limit: words in the summary, or an error before anything is trained."
    )
    class_shares: float | None = Field(
        0.1,
        gt=0,
        le=1,
        description="Total variation distance of the class shares: the share of rows (or labelled tokens) that would "
        "have to be of another class.",
    )
    new_classes: int | None = Field(
        0, ge=0, description="Classes with rows now and none before, beside those that chance explains."
    )
    vanished_classes: int | None = Field(
        0, ge=0, description="Classes with rows before and none now, beside those that chance explains."
    )
    lengths: float | None = Field(
        0.25,
        gt=0,
        description="Population stability index of the rows' lengths; from 0.1 on a shift is seen as moderate, from "
        "0.25 on as large.",
    )
    unseen_tokens: float | None = Field(
        0.01,
        gt=0,
        le=1,
        description="Share of the token occurrences whose token the earlier training rows never showed.",
    )
    unknown_genes: float | None = Field(
        0.05,
        gt=0,
        le=1,
        description="By how much the share of genes of the counts that become no token may rise.",
    )
    min_rows: float | None = Field(0.5, gt=0, description="Rows now by rows before, at least.")
