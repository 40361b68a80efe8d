"""One range of intensities for all scans of a channel whose numbers are absolute, as Hounsfield units are."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch

from ..imaging.scanned import find_padding
from ..imaging.thresholds import otsu_thresholds
from .grid import Range
from .to_grid import class_boxes

VOXELS = 50_000  # of a scan that are looked at, at most about
LABELLED = 2_000  # of each label of a scan
FOREGROUND = (0.5, 99.5)  # percentiles of the voxels inside labels, as nnU-Net takes them (Isensee et al. 2021)
TISSUE = (5.0, 95.0)  # percentiles of the body that a range spans besides
SATURATED = 0.01  # share of the voxels with the lowest number, and with the highest, from which on a window was cut
LUNG = -500.0  # HU; a window that begins lower has air and lung apart from fat


class RangeSamples:
    """Some voxels of every training scan, kept as they pass by while the files are looked at.

    A range spans the `FOREGROUND` percentiles of what lies inside labels, and the `TISSUE` percentiles of the body: a
    window of the labels alone would clip the fat around an organ to what lung is, and a network that has to find where
    the organ is loses what it lies in. Without any label it is the `FOREGROUND` percentiles of the body. Every label
    has as many voxels in it, so that small organs count as large ones do. The body is what was scanned and is brighter
    than Otsu's threshold of all scans: air, lung and couch lie below it, whatever the file's numbers begin at. Numbers
    that were cut to a window of soft tissue before have air and lung at its lower end, and Otsu's threshold would lie
    between fat and organs: there the body is all above that end.

    Args:
        cases: ids of the cases that are learnt from; any other is passed over.
    """

    def __init__(self, cases: Sequence[str]) -> None:
        self.wanted = set(cases)
        self.scanned: list[list[np.ndarray]] = []  # of each scan, a channel each
        self.labelled: list[list[np.ndarray]] = []  # of each scan with a label, a channel each

    def add(self, case: str | None, channels: Sequence[np.ndarray], label: np.ndarray | None = None) -> None:
        """Keep voxels of a scan, an array [H, W, D] a channel, and of what its label [H, W, D] marks."""
        if case not in self.wanted:
            return
        step = ceil((channels[0].size / VOXELS) ** (1 / 3))
        self.scanned.append([_scanned(array[::step, ::step, ::step]) for array in channels])
        if label is not None and label.shape == channels[0].shape:
            self.add_labelled(channels, label)

    def add_labelled(self, channels: Sequence[np.ndarray], label: np.ndarray) -> None:
        """Keep voxels of what a label [H, W, D] marks, or of some slices of both."""
        self.labelled.append([_inside(array, label) for array in channels])

    def measure(self, channel: int) -> Range | None:
        """Return the range of a channel; None: all its voxels are one value."""
        scanned = np.concatenate([scan[channel] for scan in self.scanned] or [np.zeros(0, np.float32)])
        if not scanned.size:
            return None
        body = _body(scanned)
        found = np.concatenate([scan[channel] for scan in self.labelled] or [np.zeros(0, np.float32)])
        parts = [(body, FOREGROUND)] if not found.size else [(found, FOREGROUND), (body, TISSUE)]
        ends = [np.percentile(values, percentiles) for values, percentiles in parts if values.size]
        low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 0.0)
        return (float(low), float(high)) if low < high else None

    def clipped(self, channel: int, found: Range) -> tuple[float, float] | None:
        """Return which shares of what is no air, over all scans, lie below a channel's range and above it.

        No air is what is brighter than `LUNG`, and in numbers that were cut to a window what is brighter than its lower
        end: nothing that the range itself was measured by, so that a mistake of that shows. None: of numbers that begin
        elsewhere nobody knows.
        """
        scanned = np.concatenate([scan[channel] for scan in self.scanned] or [np.zeros(0, np.float32)])
        least = float(scanned.min()) if scanned.size else 0.0
        tissue = scanned[scanned > max(least, LUNG)]
        if not tissue.size or (least > LUNG and (scanned == least).mean() < SATURATED):
            return None
        return float((tissue < found[0]).mean()), float((tissue > found[1]).mean())

    def describe(self) -> str:
        """Return in words where a range was measured."""
        inside = f"inside labels of {len(self.labelled)} scans and " if self.labelled else ""
        return f"measured {inside}in the body of {len(self.scanned)}"


def _body(scanned: np.ndarray) -> np.ndarray:
    """Return those of the values [N] of all scans that are of a body."""
    least, most = scanned.min(), scanned.max()
    if least > LUNG and min((scanned == least).mean(), (scanned == most).mean()) >= SATURATED:
        return scanned[scanned > least]
    clipped = np.clip(scanned, *np.percentile(scanned, FOREGROUND))  # metal would fill Otsu's bins
    values = torch.from_numpy(clipped.astype(np.float32))[None]
    return scanned[clipped > float(otsu_thresholds(values, torch.ones_like(values))[0])]


def _scanned(array: np.ndarray) -> np.ndarray:
    padding = find_padding(array)
    values = array if padding is None else array[~padding]
    return values.astype(np.float32).reshape(-1)


def _inside(array: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return up to `LABELLED` voxels of each label, evenly spread."""
    found = [np.zeros(0, np.float32)]
    for value, box in class_boxes(torch.from_numpy(np.ascontiguousarray(label).astype(np.int32))).items():
        values = array[box][label[box] == value]
        found.append(values[:: -(-len(values) // LABELLED)].astype(np.float32))
    return np.concatenate(found)
