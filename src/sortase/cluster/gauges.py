"""How a training goes, as gauges among Ray's own Prometheus metrics (``ray_sortase_…``)."""

from __future__ import annotations

from typing import Any

GAUGES = {
    "tokens_per_second": ("useful_tokens_per_second", "Tokens without padding that all workers train on a second"),
    "padding_share": ("padding_share", "Share of padding in the tokens computed"),
    "step_seconds": ("step_seconds", "Seconds of an optimizer step"),
    "checkpoint_wait_seconds": ("checkpoint_wait_seconds", "Seconds for which training waited for checkpoints"),
    "loss": ("training_loss", "Training loss"),
}


class Gauges:
    """Hears of the timeline on rank 0; the newest log is what the gauges show."""

    def __init__(self, run: str):
        from ray.util.metrics import Gauge

        self.gauges: dict[str, Any] = {}
        for value, (name, words) in GAUGES.items():
            self.gauges[value] = Gauge(f"sortase_{name}", description=words, tag_keys=("run",))
            self.gauges[value].set_default_tags({"run": run})
        self.step = Gauge("sortase_step", description="Optimizer steps done", tag_keys=("run",))
        self.step.set_default_tags({"run": run})

    def rewound(self, step: int) -> None:
        self.step.set(max(0, step))

    def heard(self, event: str, step: int, values: dict[str, Any]) -> None:
        self.step.set(step)
        for name, gauge in self.gauges.items():
            if name in values:
                gauge.set(values[name])
