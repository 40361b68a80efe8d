"""After a training: what its scans look like to the model, and what its scores and probabilities come to, if known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
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
from ..grid.native import ToNativeGridd, largest
from ..grid.plan_summary import dice_by_value
from ..launch.words import path
from ..levels.network import deployed
from ..processes import watched
from ..serving.probabilities import ToProbabilitiesd
from ..tensors import plain
from ..volumes.label import LoadLabelVolumed
from .features import Features, image_quantiles, label_features
from .handedness import learn_handedness, surroundings
from .knowledge import FILE, learn
from .second_view import ReviewedInferer, take_second_view
from .temperature import calibrate
from .voxels import Voxels, draw_voxels

MOST = 12  # training scans that tell what is usual
MOST_SCORED = 24  # cases that tell what a score is worth


@dataclass
class Look:
    """What was seen of a case: features by label value, its image's quantiles, what is around what was found; where it
    is judged Dice by value, and voxels with their truth, unless its mask doesn't tell about all labels."""

    features: dict[int, Features]
    quantiles: list[list[float]]
    around: Tensor | None = None
    dice: dict[int, float] = field(default_factory=dict)
    voxels: Voxels | None = None


class ReviewLearning:
    """Write review.json beside model.pt: sizes, shapes, images of training scans; scores, probabilities against truth.

    Usual is what the model finds in training scans, evenly chosen; no label of theirs is opened. Truth is that of the
    labelled validation cases, where they are what is scored: a network's Dice on what it has learnt from says nothing
    of other scans, test cases are there to judge by, and beside labelled test cases a validation label stays closed.
    Where there is no such truth a score counts as it is, and so does a probability.

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
        share = Pieces(len(learnt), count(self.cohort.cases, MOST) + count(truth, MOST_SCORED))
        with rehearsed("learn review", share), eval_mode(self.network), torch.no_grad():
            pieces = enumerate(zip(learnt, watched(learnt), strict=True))
            looks = [self.look(case, number >= len(usual)) for number, (case, _) in pieces]
        said = f"{len(scored)} labelled validation cases" if scored else "no case, so that scores stay as they are"
        source = f"sizes, shapes and images of {len(learnt)} scans; Dice of {said}"
        features, images = [look.features for look in looks], [look.quantiles for look in looks]
        handedness = learn_handedness([look.around for look in looks])
        told = None if handedness is None else asdict(handedness)
        known = learn(features, images, [look.dice for look in looks], source, told)
        values = [int(value) for value in deployed(self.network).label_values]
        known.calibration = calibrate([look.voxels for look in looks if look.voxels is not None], values)
        known.save(self.ckpt_path)
        print(
            f"review: {printable(self.ckpt_path.with_name(FILE))} ({source}; {known.calibration.describe()})",
            flush=True,
        )

    def look(self, case: Case, judged: bool) -> Look:
        """Look at a case, and at its truth where it is judged."""
        network = deployed(self.network)
        values = [int(value) for value in network.label_values]
        image = self.preprocessing({"image": case["image"]})["image"]
        inferer = ReviewedInferer(self.inferer, judged)
        found = inferer(image.as_tensor()[None].to(self.device), network)[0]
        pred = ToProbabilitiesd("pred")({"pred": found})["pred"].cpu()
        again = take_second_view(pred.shape[1:])
        spacing = [float(p) for p in affine_to_spacing(image.affine, r=3)]
        features = dict(zip(values[1:], label_features(pred, spacing, again), strict=True))
        look = Look(features, image_quantiles(image), surroundings(image, largest(pred), spacing))
        if judged:
            native = plain(ToNativeGridd("pred", values)({"pred": pred, "image": image})["pred"][0])
            label = plain(LoadLabelVolumed("label")({"label": case["label"]})["label"][0])
            told = case.get("known_labels", values[1:])
            look.dice = {v: d for v, d in dice_by_value(label, native, values[1:]).items() if v in told}
            if set(values[1:]) <= set(told):
                look.voxels = draw_voxels(pred, image, label, native, values)
        return look


def spaced(cases: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many cases, evenly spaced in their order."""
    return [cases[number * len(cases) // min(most, len(cases))] for number in range(min(most, len(cases)))]
