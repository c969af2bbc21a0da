"""Where a training computes: on a GPU when there is one, and with other processes when torchrun started them.

Data parallel: every process holds the whole network, takes its share of each batch, and all step by the mean of their
gradients. Started alone, a training is a team of one:

    torchrun --nproc-per-node 2 -m model.train --snapshot DIR
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """A process of a training: its device, its rank among `world` processes. Rank 0 judges, seals and reports; the
    others end with status 0 whatever the outcome, since torchrun ends all as soon as one fails."""

    device: torch.device
    rank: int = 0
    world: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return batch[self.rank :: self.world]

    def agree(self, network: nn.Module) -> None:
        """Replace each gradient by its mean over all processes."""
        if self.world == 1:
            return
        for weight in network.parameters():
            assert weight.grad is not None
            dist.all_reduce(weight.grad)
            weight.grad /= self.world


CPU = Place(torch.device("cpu"))


@contextmanager
def place(kind: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[Place]:
    """This process's place, as torchrun's environment says; `auto` takes a GPU when there is one."""
    cuda = kind == "cuda" or (kind == "auto" and torch.cuda.is_available())
    here = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else CPU.device
    if "WORLD_SIZE" not in os.environ:
        yield Place(here)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Place(here, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
