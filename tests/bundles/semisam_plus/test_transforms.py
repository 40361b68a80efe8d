from __future__ import annotations

import itertools
from types import SimpleNamespace

import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from common.grid.grid import Grid
from support.bundle.path import import_bundle

module = import_bundle("semisam_plus", "transforms")
SIZE = (4, 5, 6)


class Answers:
    """Has an answer for one case."""

    def load(self, case: str):
        if case != "answered":
            return None
        return {"answer": torch.full((3, *SIZE), 0.5), "disagreement": torch.ones(1, *SIZE), "weight": 0.25}


def items():
    image = torch.rand(1, *SIZE)
    return [
        {"case": "answered", "image": image},
        {"case": "silent", "image": image},
        {"case": "labelled", "image": image, "label": torch.ones(3, *SIZE)},
    ]


def test_a_batch_of_labelled_and_unlabelled_items_stacks():
    with_label = [module.AddLabeledd(3)(item) for item in items()]
    batch = next(iter(DataLoader(Dataset(with_label, module.AddAnswersd(Answers(), 3)), batch_size=3)))
    assert batch["labeled"].tolist() == [False, False, True]
    assert batch["label"].flatten(1).sum(1).tolist() == [0, 0, 3 * 120]
    assert batch["answer"].shape == (3, 3, *SIZE) and batch["disagreement"].shape == (3, 1, *SIZE)
    assert batch["answer_weight"].tolist() == [0.25, 0, 0]
    assert batch["answer"].flatten(1).sum(1).tolist() == [0.5 * 3 * 120, 0, 0]


def test_labelled_items_take_no_answer_and_without_generalists_there_is_none():
    item = module.AddLabeledd(3)({"case": "answered", "image": torch.rand(1, *SIZE), "label": torch.ones(3, *SIZE)})
    assert float(module.AddAnswersd(Answers(), 3)(item)["answer_weight"]) == 0
    answers = SimpleNamespace(cohort=SimpleNamespace(grid=Grid(SIZE, (1, 1, 1), (0, 1, 2))), load=lambda case: None)
    given = {"case", "image", "inside", "label", "labeled", "known"}
    for in_rounds, on in itertools.product((True, False), repeat=2):
        answers.in_rounds = in_rounds
        pseudo_labels = SimpleNamespace(on=on, load=lambda case: None)
        seen = set(module.TrainPreprocessing(answers, pseudo_labels, Compose([]))(items()[0]))
        wanted = given | ({"answer", "disagreement", "answer_weight"} if in_rounds else set())
        assert seen == wanted | ({"pseudo_label", "pseudo_labeled"} if on else set())


def test_pseudo_labels_are_of_unlabelled_items_that_have_one():
    label = torch.full((3, *SIZE), 0.3)
    pseudo_labels = SimpleNamespace(load=lambda case: None if case == "silent" else label)
    with_label = [module.AddLabeledd(3)(item) for item in items()]
    batch = next(iter(DataLoader(Dataset(with_label, module.AddPseudoLabelsd(pseudo_labels, 3)), batch_size=3)))
    assert batch["pseudo_labeled"].tolist() == [True, False, False]
    assert torch.equal(batch["pseudo_label"][0], label) and batch["pseudo_label"][1:].abs().sum() == 0
