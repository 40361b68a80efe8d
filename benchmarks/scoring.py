"""How benchmarks score a segmentation of a test case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from common.grid.native import ToNativeGridd
from common.scoring.metrics import case_metrics


def native_scores(
    item: Mapping[str, Any], probabilities: Tensor, values: Sequence[int], keys: Sequence[str] = ("dice", "hd95")
) -> dict[str, float]:
    """Return scores (Dice; HD95, ASSD in mm) on the native grid of a test case, each the mean over the labels.

    Args:
        item: with `image`, as the network saw it, and `label` [1, H', W', D'] as it was loaded.
        probabilities: [K, H, W, D] on the grid of `image`.
        values: of each class in the label, background first.
        keys: of `case_metrics`.
    """
    native = ToNativeGridd("pred", values)({"pred": probabilities, "image": item["image"]})["pred"]
    found = case_metrics(native[0], item["label"][0], item["label"].pixdim.tolist(), values).values()
    return {key: sum(scores[key] for scores in found) / len(found) for key in keys}
