"""Model FLOPs utilisation (MFU) on useful tokens.

A training step costs ``6 N`` floating-point operations for each token, where ``N`` counts the parameters without
embeddings, and ``12 layers hidden length`` more for attention (forward and backward), by the length of the token's own
row (Chowdhery et al. 2022, PaLM, appendix B). Padding costs time and counts for nothing. The peak is the card's for
dense bf16 products: 989e12 a second for the SXM cards H100 and H200; another card's is measured with a large product.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from .work import device, synchronize

PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200 NVL": 835e12, "H200": 989e12}


def step_flops(lengths: np.ndarray, parameters: int, layers: int, hidden: int) -> float:
    """Of training on rows of these token counts."""
    tokens = lengths.astype(np.float64)
    return float((6 * parameters * tokens + 12 * layers * hidden * tokens**2).sum())


def card() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def peak() -> tuple[float, str]:
    """Floating-point operations a second, and where the figure is from."""
    for name, value in PEAKS.items():
        if name in card():
            return value, "data sheet"
    on_gpu = torch.cuda.is_available()
    size, kind = (8192, torch.bfloat16) if on_gpu else (512, torch.float32)
    left = torch.randn(size, size, device=device(), dtype=kind)
    times = []
    for _ in range(10):
        synchronize()
        started = time.perf_counter()
        left @ left
        synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times), "measured product"
