"""The order of WeakMedSAM's stages: nothing is done while they are built, and each takes what it needs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from common.errors import find_input_error
from support.bundle.path import import_bundle
from support.bundle.run import WEAK, files_below, files_opened
from support.weakmedsam.fake import use_fake_backbone

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
        (True, 2, "mobile_sam", ["encode", "look", "cluster", "classify", "prior", "appearance", "finish"]),
        (True, 0, "mobile_sam", ["encode", "look", "cluster", "classify", "prior", "finish"]),
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
    run = SimpleNamespace(output_dir=tmp_path, measure=lambda name, work, share=None: work())
    clusters = SimpleNamespace(fit=note("cluster"))
    plan = WeakPlan(run, SimpleNamespace(cases=[]), clusters, labeller, learnt["classify"], learnt["appearance"])
    plan.check_images = note("look")
    plan.trainers["train"], plan.review = learnt["train"], SimpleNamespace(write=note("review"))
    plan.stages()
    assert said == ["load", *order, "review"]
    subsets = {name: stage.data_loader.sampler.subset for name, stage in learnt.items()}
    assert subsets == {"classify": None, "appearance": [0], "train": [0]}


def bits_alone(folder: Path, cohort: Path, apart: bool) -> None:
    """Write a cohort without boxes, whose labels follow one another (`apart`) or are all on the same slices."""
    content = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    content["locations"] = {key: {"volume_ml": place["volume_ml"]} for key, place in content["locations"].items()}
    for case in content["training"]:
        given = case["slice_labels"]
        given = json.loads((cohort / given).read_text(encoding="utf-8")) if isinstance(given, str) else given
        given["labels"] = {key: {"first": 4, "last": 15} for key in given["labels"]}
        if apart:
            given["labels"] |= {key: {"first": 4 * n, "last": 4 * n + 3} for n, key in enumerate(given["labels"])}
        case["slice_labels"] = given
    shutil.copytree(cohort, folder)
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def prepared(folder: Path, tmp_path: Path, **settings: str) -> list[str]:
    """Return what was done of a plan before anything learnt."""
    import_bundle("weakmedsam")
    parser = ConfigParser()
    parser.read_config(str(WEAK.configs / "train.json"))
    folders = {f"{name}_dir": str(tmp_path / name) for name in ("output", "ckpt", "cache")}
    parser.update({**WEAK.tiny, **folders, "dataset_dir": str(folder), "backbone": "mobile_sam", **settings})
    plan, done = parser.get_parsed_content("plan"), []
    plan.load = lambda: done.append("load")
    for name in (
        "encode",
        "check_images",
        "learn_to_classify",
        "make_priors",
        "leave_out_rejected",
        "learn_appearance",
        "make_labels",
    ):
        setattr(plan, name, lambda: None)
    plan.review = SimpleNamespace(write=lambda: None)
    plan.prepare()
    return done


def test_bits_that_cannot_tell_labels_are_refused_before_a_volume_is_loaded(tiny_cohort, tmp_path, monkeypatch, capsys):
    use_fake_backbone(monkeypatch, tmp_path / "weights")
    bits_alone(tmp_path / "same", tiny_cohort, apart=False)
    bits_alone(tmp_path / "others", tiny_cohort, apart=True)
    with pytest.raises(ValueError, match="are on the same slices") as error:
        prepared(tmp_path / "same", tmp_path, prior="auto")
    (line,) = find_input_error(error.value).problems
    assert "labels 1 (liver), 2 (portal_vessel)" in line and "a typical box" in line and "--prior cam" in line
    assert not (tmp_path / "output" / "run.json").exists()
    assert prepared(tmp_path / "others", tmp_path, prior="auto") == ["load"]
    assert "warning" not in capsys.readouterr().out
    content = json.loads((tmp_path / "others" / "dataset.json").read_text(encoding="utf-8"))
    del content["locations"]["1"]
    (tmp_path / "others" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"label 1 \(liver\): has neither a box nor a volume_ml"):
        prepared(tmp_path / "others", tmp_path, prior="auto")
    # who asks for it gets it, and is told
    assert prepared(tmp_path / "same", tmp_path / "insisted", prior="cam") == ["load"]
    assert f"warning: {line.split('; --prior')[0].split(': ', 1)[1]}" in capsys.readouterr().out


@pytest.mark.parametrize("shown", [True, False])
def test_images_that_do_not_tell_a_labels_slices_are_refused_before_the_classifier_learns(shown, capsys):
    random, bits, features, items = np.random.default_rng(0), {}, {}, []
    for number in range(8):
        own = torch.zeros(1, 20)
        own[:, 4 + number % 6 : 12 + number % 6] = 1
        noise = torch.from_numpy(0.1 * random.standard_normal((20, 3, 2, 2))).float()
        features[f"case_{number}"], bits[f"case_{number}"] = noise + (own[0, :, None, None, None] if shown else 0), own
        # 4 slices of the grid lie beyond the scan
        affine = torch.eye(4, dtype=torch.float64)
        meta = {"original_affine": affine.numpy(), "spatial_shape": np.array((4, 4, 16))}
        items.append(
            {"case": f"case_{number}", "image": MetaTensor(torch.zeros(1, 4, 4, 20), affine=affine, meta=meta)}
        )
    plan = WeakPlan.__new__(WeakPlan)
    plan.images, plan.run = items, SimpleNamespace(seed=0)
    plan.cohort = SimpleNamespace(name="cohort", labels={0: "background", 3: "liver"}, slice_axis=2)
    plan.features = SimpleNamespace(features=features.__getitem__, all_bits=bits, tuned=False)
    plan.labeller = SimpleNamespace(asked="auto")
    if shown:
        plan.check_images()
        return
    with pytest.raises(ValueError, match=r"label 3 \(liver\).*on 8 scans.*draw one typical box; --prior cam") as error:
        plan.check_images()
    assert len(find_input_error(error.value).problems) == 1
    plan.labeller.asked = "cam"
    plan.check_images()
    assert capsys.readouterr().out.startswith("warning: label 3 (liver): ")
