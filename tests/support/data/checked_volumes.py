"""Volumes on disk, right and wrong, and what the checks say of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.data.checks import check_cases

SHAPE = (8, 9, 7)


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mask(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[2:5, 2:5, 2:5] = 1
    return array


def check(folder: Path, *cases: dict, **options) -> list[str]:
    return check_cases(cases, {0: "background", 1: "liver"}, dataset_dir=folder, **options)


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    assert "\n" not in problems[0]
    return problems[0]
