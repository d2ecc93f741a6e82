"""This process among those that train one model together."""

from __future__ import annotations

import os
import socket
from typing import Any

from ..errors import ConfigError


class Ranks:
    """One process alone; every question that concerns all is answered at once."""

    rank = 0
    world_size = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether any rank says so. All ranks must ask, the same number of times; so with all that follow."""
        return flag

    def gather(self, value: Any) -> list[Any]:
        """What every rank gave, in order of the ranks."""
        return [value]

    def first(self, value: Any) -> Any:
        """What rank 0 gave."""
        return value

    def leads_node(self) -> bool:
        """Whether this is the first rank of its machine (or pod): the one that does what is done once a node."""
        return True

    def of_node(self, value: Any) -> Any:
        """What the first rank of this machine gave."""
        return value


class JoinedRanks(Ranks):
    """The processes of a torch.distributed group. What they tell each other never touches a GPU."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        self._torch, self._dist = torch, dist
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._group: Any = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        hosts = self.gather(socket.gethostname())
        self._leader = hosts.index(hosts[self.rank])
        if dist.get_backend() == "nccl":
            self._refuse_shared_gpus(hosts)

    def _refuse_shared_gpus(self, hosts: list[str]) -> None:
        """NCCL gives each GPU to one rank; a second one would end in an error of its own at the first step, or hang."""
        owner: dict[Any, int] = {}
        for rank, gpu in enumerate(zip(hosts, self.gather(self._own_gpu()), strict=True)):
            if owner.setdefault(gpu, rank) != rank:
                raise ConfigError(
                    f"training workers {owner[gpu]} and {rank} share one GPU of {gpu[0]}, and NCCL needs one for each: "
                    "give compute.gpus_per_worker at least 1, or fewer compute.workers"
                )

    def _own_gpu(self) -> str:
        """Identity of the GPU that accelerate takes for this rank."""
        cuda = self._torch.cuda
        number = int(os.environ.get("LOCAL_RANK", self.rank)) % max(1, cuda.device_count())
        return str(cuda.get_device_properties(number).uuid)

    def any(self, flag: bool) -> bool:
        if self.world_size == 1:
            return flag
        votes = self._torch.tensor([int(flag)], dtype=self._torch.int32)
        self._dist.all_reduce(votes, op=self._dist.ReduceOp.MAX, group=self._group)
        return bool(votes.item())

    def gather(self, value: Any) -> list[Any]:
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        self._dist.all_gather_object(values, value, group=self._group)
        return values

    def first(self, value: Any) -> Any:
        return self.gather(value if self.rank == 0 else None)[0]

    def leads_node(self) -> bool:
        return self._leader == self.rank

    def of_node(self, value: Any) -> Any:
        return self.gather(value)[self._leader]
