"""What the segmenter learns from: a case and its pseudo label, moved alike."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from monai.transforms import Compose, Flipd

from common.pseudo_labels.preprocessing import TaughtPreprocessing
from support.ada_sam.fake import images


def test_image_and_pseudo_label_are_changed_alike_and_what_is_known_of_slices_stays_out():
    item = images()[0]
    known = {"target": torch.rand(3, *item["image"].shape[1:]), "weight": torch.rand(1, *item["image"].shape[1:])}
    labeller = SimpleNamespace(load=lambda case: known if case == "case_0" else None)
    flip = Compose([Flipd(["image", "target", "weight"], spatial_axis=0)])
    found = TaughtPreprocessing(labeller, flip)(item)
    assert set(found) == {"case", "image", "target", "weight"}
    for name, before in {**known, "image": item["image"].as_tensor()}.items():
        assert type(found[name]) is torch.Tensor and torch.equal(found[name], before.flip(1))
