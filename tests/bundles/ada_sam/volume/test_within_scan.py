"""The slices that a scan has are led through as if the grid had no others."""

from __future__ import annotations

import torch

from support.ada_sam.structures import SIZE, SeeingNetwork, embeddings_of, structures
from support.bundle.path import import_bundle
from support.data.shorter_scan import shorter_scan

within_scan = import_bundle("ada_sam", "volume.within_scan")
VolumeInference = import_bundle("ada_sam", "volume.volume_inference").VolumeInference


def test_slices_beyond_the_scan_have_no_say():
    """The scan ends within both structures, and its last slice is repeated, as on a grid that goes on."""
    inference = VolumeInference(SeeingNetwork(), 2)
    embeddings = embeddings_of(structures())
    embeddings[7:] = embeddings[6]
    image = shorter_scan(torch.rand(1, *SIZE), 1, 6)  # slices 1 to 6 of 10
    for bits in (None, structures().flatten(1, 2).any(1)):
        own = inference(embeddings[1:7], (*SIZE[:2], 6), None if bits is None else bits[:, 1:7])
        found = within_scan.segment_scan(inference, embeddings, image, bits)
        assert found.probabilities.shape == (3, *SIZE) and found.gate.shape == (2, 10)
        assert torch.equal(found.probabilities[..., 1:7], own.probabilities)
        assert found.probabilities[..., [0, 7, 8, 9]].max() == 0 and not found.gate[:, [0, 7, 8, 9]].any()
        assert torch.equal(found.gate[:, 1:7], own.gate) and torch.equal(found.boxes[:, 1:7], own.boxes)
        assert (found.confidence[:, [0, 7, 8, 9]] == 1).all()


def test_a_scan_that_fills_the_grid_is_asked_about_as_ever():
    inference = VolumeInference(SeeingNetwork(), 2)
    embeddings = embeddings_of(structures())
    found = within_scan.segment_scan(inference, embeddings, torch.rand(1, *SIZE))
    for one, other in zip(found, inference(embeddings, SIZE), strict=True):
        assert torch.equal(one, other)
