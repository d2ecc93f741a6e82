"""Where a run is computed: in this process, or by Ray on this machine or a cluster."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from .base import Section


class WorkerRange(Section):
    """Elastic training: as many workers as there is room for."""

    min: int = Field(ge=1, description="Training waits for this many.")
    max: int = Field(ge=1, description="More are not used.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"compute.workers.min {self.min} is above compute.workers.max {self.max}")
        return self


class TaskGroup(Section):
    """Ray tasks or actors of one kind, and the nodes they run on."""

    workers: int = Field(0, ge=0, description="How many at the same time; 0 keeps the work in the driver's process.")
    cpus: float = Field(1, gt=0, description="CPUs of each.")
    gpus: float = Field(0, ge=0, description="GPUs of each; a fraction shares one.")
    memory: int | None = Field(None, ge=1, description="Bytes of memory that each reserves.")
    resources: dict[str, float] = Field(default_factory=dict, description="Custom Ray resources of each.")
    labels: dict[str, str] = Field(default_factory=dict, description="Ray node labels that each needs.")


class ComputeSpec(Section):
    """Where and how precisely it is computed. With 0 workers everywhere Ray is not needed."""

    workers: int | WorkerRange = Field(0, description="Training processes; 0 is this process, a range is elastic.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto is bf16 on GPUs that have it, fp16 with loss scaling on others, and fp32 on CPUs, where bf16 "
        "and fp16 also work.",
    )
    deepspeed: Literal[1, 2, 3] | str | dict[str, Any] | None = Field(
        None, description="ZeRO stage, or a DeepSpeed configuration (JSON file, URL, or settings)."
    )
    cpus_per_worker: float = Field(1, gt=0, description="CPUs of each training worker.")
    gpus_per_worker: float | None = Field(
        None, ge=0, description="GPUs of each training worker. Default: 1 where the cluster has any, else 0."
    )
    resources_per_worker: dict[str, float] = Field(
        default_factory=dict, description="Custom Ray resources of each training worker."
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Ray node labels that training workers need.")
    prepare: TaskGroup = Field(default_factory=TaskGroup, description="Ray tasks that tokenize and prepare.")
    score: TaskGroup = Field(default_factory=TaskGroup, description="Ray actors that evaluate and predict.")
    address: str | None = Field(
        None,
        description="Ray cluster to connect to. Default: RAY_ADDRESS or the surrounding job's, else Ray is started on "
        "this machine.",
    )
    namespace: str = Field("sortase", description="Ray namespace.")
    max_failures: int = Field(3, ge=0, description="Crashes of training workers that are survived.")
    start_timeout: float = Field(600, gt=0, description="Seconds that workers may take to start, scaling up included.")
    most: dict[str, float] = Field(
        default_factory=dict,
        description="What the cluster can grow to with its autoscaler (CPU, GPU, memory, custom resources), for the "
        "check before the start.",
    )

    @field_validator("workers")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"compute.workers must be 0 or more, got {value}")
        return value

    @model_validator(mode="after")
    def _zero_needs_fixed_workers(self) -> Self:
        if self.deepspeed is not None and isinstance(self.workers, WorkerRange):
            raise ValueError(
                "compute.workers is a range, but DeepSpeed's checkpoints belong to one number of workers; "
                "give a number, or leave out compute.deepspeed"
            )
        if self.deepspeed is not None and self.workers == 0:
            raise ValueError("compute.deepspeed needs training processes of its own: compute.workers of at least 1")
        return self

    @property
    def max_workers(self) -> int:
        """The most training workers: what a default global batch is computed for."""
        return self.workers.max if isinstance(self.workers, WorkerRange) else self.workers

    @property
    def min_workers(self) -> int:
        return self.workers.min if isinstance(self.workers, WorkerRange) else self.workers

    def shapes_weights(self) -> dict[str, Any]:
        """What trained weights depend on: not the number of workers, unless checkpoints belong to it (DeepSpeed)."""
        names = {"device", "precision", "deepspeed"} | ({"workers"} if self.deepspeed is not None else set())
        return self.model_dump(mode="json", include=names)

    @property
    def uses_ray(self) -> bool:
        return bool(self.workers) or self.prepare.workers > 0 or self.score.workers > 0
