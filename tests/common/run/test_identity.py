from __future__ import annotations

import pytest

from common.run.identity import differences, run_identity

FACTS = {
    "seed": 0,
    "versions": {"torch": "2"},
    "machine": {"cores": 2},
    "dataset": {"sha256": "ef", "learnt": "ab", "cases": {"training": 4, "test": 1}},
    "config": {
        "run": {"num_workers": 0, "output_dir": "…/eval"},
        "labeller": {"keep": 0.5, "folder": "…/labels", "device": "cuda:0"},
        "train": {"max_epochs": 8, "amp": True, "optimizer": {"name": "AdamW", "lr": 0.001, "betas": [0.9, 0.999]}},
    },
}


def changed(path: str, value):
    *parents, last = path.split(".")
    copy = dict(FACTS)
    inner = copy
    for name in parents:
        inner[name] = dict(inner[name])
        inner = inner[name]
    inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("versions.torch", "3"),
        ("machine.cores", 8),
        ("dataset.sha256", "gh"),  # more cases to score, or a pseudo label that somebody has rejected
        ("dataset.cases.test", 2),
        ("config.run.num_workers", 4),
        ("config.labeller.folder", "…/other"),
        ("config.labeller.device", "cpu"),
        ("config.train.max_epochs", 16),
        ("config.train.amp", False),
    ],
)
def test_where_how_and_how_long_is_free(path, value):
    assert run_identity(changed(path, value)) == run_identity(FACTS)
    assert differences(FACTS, changed(path, value)) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("seed", 1, "seed is 1, was 0"),
        ("dataset.learnt", "cd", "dataset is 'cd', was 'ab'"),
        ("dataset", {"sha256": "gh"}, "dataset is 'gh', was 'ab'"),  # cases that a client gives
        ("dataset", None, "dataset is 'None', was 'ab'"),
        ("config.labeller.keep", 0.7, "config.labeller.keep is 0.7, was 0.5"),
        ("config.train.optimizer.lr", 0.1, "config.train.optimizer.lr is 0.1, was 0.001"),
        ("config.teacher", {"name": "sam"}, "config.teacher.name is 'sam', was 'not there'"),
    ],
)
def test_what_changes_what_is_learnt_is_another_run(path, value, line):
    assert run_identity(changed(path, value)) != run_identity(FACTS)
    assert line in differences(FACTS, changed(path, value))


def test_an_id_is_short_and_does_not_hang_on_the_order():
    turned = {name: FACTS[name] for name in reversed(FACTS)}
    assert run_identity(turned) == run_identity(FACTS) and len(run_identity(FACTS)) == 12
