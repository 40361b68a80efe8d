"""After a training: what its scans look like to the model, and what Dice a score comes to, where that can be known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.data.utils import affine_to_spacing
from monai.networks.utils import eval_mode
from monai.transforms import Compose
from torch import Tensor, nn

from ..cohorts.cohort import Cohort
from ..costs.pieces import Pieces, count, rehearsed
from ..data.datalist import Case
from ..errors import printable
from ..grid.native import ToNativeGridd
from ..grid.plan_summary import dice_by_value
from ..launch.words import path
from ..levels.network import deployed
from ..processes import watched
from ..serving.probabilities import ToProbabilitiesd
from ..tensors import plain
from ..volumes.label import LoadLabelVolumed
from .features import Features, image_quantiles, label_features
from .knowledge import FILE, learn
from .second_view import ReviewedInferer, take_second_view

MOST = 12  # training scans that tell what is usual
MOST_SCORED = 24  # cases that tell what a score is worth


class ReviewLearning:
    """Write review.json beside model.pt: sizes, shapes and images of training scans, and scores against true Dice.

    Usual is what the model finds in training scans, evenly chosen; no label of theirs is opened. Truth is that of the
    labelled validation cases, where they are what is scored: a network's Dice on what it has learnt from says nothing
    of other scans, test cases are there to judge by, and beside labelled test cases a validation label stays closed.
    Where there is no such truth a score counts as it is.

    Args:
        cohort: whose `cases` were learnt from.
        network: what is deployed.
        inferer: (image, network) -> log-probabilities.
        preprocessing: of a path, as the deployed network is given it.
        ckpt_path: model.pt, as it was written.
        device: of the network.
    """

    def __init__(
        self,
        cohort: Cohort,
        network: nn.Module,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        preprocessing: Compose,
        ckpt_path: str,
        device: str | torch.device = "cpu",
    ) -> None:
        self.cohort, self.network, self.preprocessing = cohort, network, preprocessing
        self.inferer, self.ckpt_path, self.device = inferer, Path(path(ckpt_path)), torch.device(device)

    def run(self) -> None:
        """Do it, in the first of several processes."""
        if idist.get_rank() > 0:
            return
        usual = spaced([case for case in self.cohort.cases if "image" in case], MOST)
        validation = {case["case"] for case in self.cohort.content.validation}
        truth = [case for case in self.cohort.scored if case["case"] in validation]
        scored = spaced(truth, MOST_SCORED)
        learnt = [*usual, *scored]
        features, images, dice = [], [], []
        share = Pieces(len(learnt), count(self.cohort.cases, MOST) + count(truth, MOST_SCORED))
        with rehearsed("learn review", share), eval_mode(self.network), torch.no_grad():
            for number, (case, _) in enumerate(zip(learnt, watched(learnt), strict=True)):
                judged = number >= len(usual)
                own, quantiles, found = self.look(case, judged)
                features.append(own)
                images.append(quantiles)
                dice.append(found)
        said = f"{len(scored)} labelled validation cases" if scored else "no case, so that scores stay as they are"
        source = f"sizes, shapes and images of {len(learnt)} scans; Dice of {said}"
        learn(features, images, dice, source).save(self.ckpt_path)
        print(f"review: {printable(self.ckpt_path.with_name(FILE))} ({source})", flush=True)

    def look(self, case: Case, judged: bool) -> tuple[dict[int, Features], list[list[float]], dict[int, float]]:
        """Return a case's features by label value, its image's quantiles, and where it is judged its Dice by value."""
        network = deployed(self.network)
        values = [int(value) for value in network.label_values]
        image = self.preprocessing({"image": case["image"]})["image"]
        inferer = ReviewedInferer(self.inferer, judged)
        found = inferer(image.as_tensor()[None].to(self.device), network)[0]
        pred = ToProbabilitiesd("pred")({"pred": found})["pred"].cpu()
        again = take_second_view(pred.shape[1:])
        spacing = [float(p) for p in affine_to_spacing(image.affine, r=3)]
        features = label_features(pred, spacing, again)
        dice: dict[int, float] = {}
        if judged:
            native = ToNativeGridd("pred", values)({"pred": pred, "image": image})["pred"][0]
            label = LoadLabelVolumed("label")({"label": case["label"]})["label"][0]
            told = case.get("known_labels", values[1:])
            dice = {v: d for v, d in dice_by_value(plain(label), plain(native), values[1:]).items() if v in told}
        return dict(zip(values[1:], features, strict=True)), image_quantiles(image), dice


def spaced(cases: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many cases, evenly spaced in their order."""
    return [cases[number * len(cases) // min(most, len(cases))] for number in range(min(most, len(cases)))]
