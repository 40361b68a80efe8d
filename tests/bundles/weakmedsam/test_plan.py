"""The order of WeakMedSAM's stages: nothing is done while they are built, and each takes what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from monai.bundle import ConfigParser

from support.bundle.path import import_bundle
from support.bundle.run import WEAK, files_below, files_opened

WeakPlan = import_bundle("weakmedsam", "plan").WeakPlan


def test_building_the_trainer_opens_no_mask_and_does_nothing(tiny_cohort, tmp_path):
    import_bundle("weakmedsam")
    parser = ConfigParser()
    parser.read_config(str(WEAK.configs / "train.json"))
    folders = {f"{name}_dir": str(tmp_path / name) for name in ("output", "ckpt", "cache")}
    parser.update({**WEAK.tiny, **WEAK.without_sam, **folders, "dataset_dir": str(tiny_cohort)})
    with files_opened() as opened:
        trainer = parser.get_parsed_content("train::trainer")
        seen = set(opened)
    masks = {os.path.realpath(path) for path in tiny_cohort.glob("labels*/*")}
    images = {os.path.realpath(path) for path in tiny_cohort.glob("images*/*")}
    assert masks and not seen & masks and seen & images  # headers of images give the grid
    assert list(trainer.plan.trainers) == ["classify", "appearance", "train"]
    assert len(trainer.plan.images) == 0 and not files_below(tmp_path)


@pytest.mark.parametrize(
    ("classifier", "rounds", "backbone", "order"),
    [
        (True, 2, "mobile_sam", ["encode", "cluster", "classify", "prior", "appearance", "finish"]),
        (True, 0, "mobile_sam", ["encode", "cluster", "classify", "prior", "finish"]),
        (False, 2, None, ["prior", "appearance", "finish"]),
    ],
)
def test_stages_that_nothing_needs_are_left_out(tmp_path, classifier, rounds, backbone, order):
    said: list[str] = []

    def note(word: str) -> Callable[..., None]:
        return lambda *arguments: said.append(word)

    learnt = {
        name: SimpleNamespace(
            name=name, network=name, run=note(name), data_loader=SimpleNamespace(sampler=SimpleNamespace(subset=None))
        )
        for name in ("classify", "appearance", "train")
    }
    features = SimpleNamespace(name=backbone, prepare=note("encode"), pooled=lambda: {}, all_bits={})
    labeller = SimpleNamespace(
        needs_classifier=classifier, rounds=rounds, images=SimpleNamespace(set_data=note("load")), features=features,
        classifier=None, walk=None, start=note("prior"), finish=note("finish"), training_indices=lambda: [0],
    )  # fmt: skip
    run = SimpleNamespace(output_dir=tmp_path, measure=lambda name, work: work())
    clusters = SimpleNamespace(fit=note("cluster"))
    plan = WeakPlan(run, SimpleNamespace(cases=[]), clusters, labeller, learnt["classify"], learnt["appearance"])
    plan.trainers["train"], plan.review = learnt["train"], SimpleNamespace(write=note("review"))
    plan.stages()
    assert said == ["load", *order, "review"]
    subsets = {name: stage.data_loader.sampler.subset for name, stage in learnt.items()}
    assert subsets == {"classify": None, "appearance": [0], "train": [0]}
