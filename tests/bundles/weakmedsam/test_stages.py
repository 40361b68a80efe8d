"""The trainers before the segmenter: how long they learn, on what, and how their rates go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.bundle.path import import_bundle
from support.weakmedsam.fake import FakeBackbone, images

stages = import_bundle("weakmedsam", "stages")
SliceClassifier = import_bundle("weakmedsam", "classifier.classifier").SliceClassifier
InputError = import_bundle("weakmedsam", "common.errors").InputError
Run = import_bundle("weakmedsam", "common.run.run").Run


def started(folder: Path) -> Any:
    return Run(str(folder), *(str(folder / name) for name in ("output", "ckpt", "cache")), seed=5)


def classify(folder: Path, tuned: bool = False, **options: Any) -> Any:
    backbone = FakeBackbone()
    features = SimpleNamespace(slice_axis=2, tuned=tuned, backbone=backbone, kind="embedding", context=0, channel=None)
    classifier = SliceClassifier(16, 2, subclasses=2)
    lengths = {"max_epochs": 3, "epoch_length": 4, "batch_size": 2, "learning_rate": 0.01}
    return stages.classify_stage(
        started(folder), features, SimpleNamespace(), classifier, images(), **lengths, **options
    )


def rates(stage: Any) -> list[float]:
    found = []
    for _ in range(stage.state.max_epochs * len(stage.data_loader)):
        found.append(stage.optimizer.param_groups[0]["lr"])
        stage.optimizer.step()
        stage.lr_scheduler.step()
    return found


def test_classifier_learns_its_epochs_at_a_rate_that_falls(tmp_path):
    stage = classify(tmp_path, child_weight=0.25)
    assert (stage.state.max_epochs, len(stage.data_loader), stage.name) == (3, 4, "classify")
    assert stage.data_loader.sampler.seed == 6 and stage.objective.child_weight == 0.25
    found = rates(stage)
    assert found[0] == 0.01 and found == sorted(found, reverse=True) and found[6] == pytest.approx(0.01 * 0.5**0.9)


def test_published_rate_rises_first(tmp_path):
    found = rates(classify(tmp_path, schedule="one_cycle"))
    assert found[0] < max(found) / 10 and found[-1] < found[0] and 0 < found.index(max(found)) < 6


def test_a_tuned_backbone_learns_with_the_classifier(tmp_path):
    counts = [len(classify(tmp_path, tuned).optimizer.param_groups[0]["params"]) for tuned in (False, True)]
    assert counts == [2, 4]  # both heads; and weight and bias of the backbone's stem


def test_unknown_schedule(tmp_path):
    with pytest.raises(InputError, match="classify::schedule is 'cosine'; wanted polynomial or one_cycle"):
        classify(tmp_path, schedule="cosine")


@pytest.mark.parametrize("rounds", [0, 2])
def test_appearance_starts_anew_with_each_round(tmp_path, rounds):
    cohort = SimpleNamespace(grid=SimpleNamespace(channels=2))
    labeller = SimpleNamespace(groups=[0, 1, 0], rounds=rounds, cohort=cohort)
    lengths = {"round_epochs": 2, "epoch_length": 3, "batch_size": 1, "learning_rate": 0.1}
    stage = stages.appearance_stage(started(tmp_path), labeller, images(), **lengths)
    assert stage.state.max_epochs == 2 * rounds and stage.network.layers[-1].out_channels == 2
    assert stage.network.layers[0].in_channels == 2  # of the scans
    assert stage.data_loader.sampler.seed == 7
    found = rates(stage)
    assert [step for step, rate in enumerate(found) if rate == 0.1] == [6 * n for n in range(rounds)]
