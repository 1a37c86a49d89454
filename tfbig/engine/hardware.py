"""Accelerators and processors by name, as their makers describe them, for plans by arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfbig.core import registry
from tfbig.core.errors import UserError


@dataclass(frozen=True)
class Hardware:
    """What a maker says of an accelerator or processor.

    Attributes:
        name: in full.
        float32: dense arithmetic in 10^12 operations a second, as TensorFlow does it there. It
            multiplies float32 matrices in TensorFloat-32 on NVIDIA since Ampere and in bfloat16
            on TPUs, unless told otherwise.
        sixteen_bit: the same in bfloat16 or float16.
        memory_gb: in 10^9 bytes.
        source: where these figures stand.
    """

    name: str
    float32: float
    sixteen_bit: float
    memory_gb: float
    source: str


SPARSE = "halves of the figures with sparsity"
HARDWARE = {
    "cpu": Hardware(
        "Intel Xeon Platinum 8480+, 56 cores",
        7.2,
        7.2,
        256,
        "Intel's 2.0 GHz and two AVX-512 units a core, 64 operations a cycle; "
        "XLA's halves are no faster; 256 GB assumed",
    ),
    "t4": Hardware("NVIDIA T4", 8.1, 65, 16, "NVIDIA T4 data sheet, 2019"),
    "v100": Hardware("NVIDIA V100 SXM2 32 GB", 15.7, 125, 32, "NVIDIA V100 data sheet, 2020"),
    "a10": Hardware("NVIDIA A10", 62.5, 125, 24, "NVIDIA A10 data sheet, 2021"),
    "l4": Hardware("NVIDIA L4", 60, 121, 24, f"NVIDIA L4 data sheet, 2023, {SPARSE}"),
    "l40s": Hardware("NVIDIA L40S", 183, 362, 48, f"NVIDIA L40S data sheet, 2023, {SPARSE}"),
    "rtx4090": Hardware("NVIDIA RTX 4090", 82.6, 165, 24, "NVIDIA Ada architecture paper, 2022"),
    "a100": Hardware("NVIDIA A100 80 GB SXM", 156, 312, 80, "NVIDIA A100 data sheet, 2021"),
    "h100": Hardware("NVIDIA H100 SXM", 494, 989, 80, f"NVIDIA H100 data sheet, 2023, {SPARSE}"),
    "h200": Hardware("NVIDIA H200 SXM", 494, 989, 141, f"NVIDIA H200 data sheet, 2024, {SPARSE}"),
    "b200": Hardware(
        "NVIDIA B200 SXM",
        1125,
        2250,
        180,
        f"NVIDIA HGX B200 data sheet, 2024, an eighth of its figures, {SPARSE}",
    ),
    "tpu_v5e": Hardware("TPU v5e, one chip", 197, 197, 16, "Google Cloud documentation of TPU v5e"),
    "tpu_v5p": Hardware("TPU v5p, one chip", 459, 459, 95, "Google Cloud documentation of TPU v5p"),
    "tpu_v6e": Hardware("TPU v6e, one chip", 918, 918, 32, "Google Cloud documentation of TPU v6e"),
}


def named(name: str) -> Hardware:
    """The hardware of a name, written with or without capitals, spaces, hyphens and its maker.

    Raises:
        UserError: there is none of that name.
    """
    plain = re.sub("[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce")
    for key, hardware in HARDWARE.items():
        if plain == key.replace("_", ""):
            return hardware
    expected = f"--hardware: expected one of {', '.join(HARDWARE)}"
    raise UserError(f"{expected}. Received: {name!r}.{registry.nearest(plain, HARDWARE)}")
