"""What a training step is given beside the image: pseudo label, or the aligned atlas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import Compose, EnsureTyped, MapTransform, RandomizableTransform
from monai.transforms.traits import RandomizableTrait

from ..common.atlas.labeller import AtlasLabeller
from ..common.launch.words import number, optional, truth
from ..common.synthesis.randomised import RandomisedCopyd
from ..common.synthesis.restyle import exchange_amplitude, match_histogram
from ..common.synthesis.velocities import mix_velocities
from ..common.tensors import known_share, plain
from .teacher import AddTeacherd, SamTeacher


class AddTargetsd(MapTransform, RandomizableTrait):
    """Add what stage 2 learns from: `pseudo_label` [K, H, W, D] of the current round, or (online) the aligned atlas.

    Not cached: the pseudo label changes between rounds, and the aligned atlas is made on the fly to save memory.
    """

    def __init__(self, labeller: AtlasLabeller, online: bool = False) -> None:
        super().__init__(["case"])
        self.labeller, self.online = labeller, truth("online_labels", online)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.online:
            return AddAlignedAtlasd(self.labeller)(data)
        return {**data, "pseudo_label": self.labeller.labels.load(data["case"])["label"]}


class RandAlignedCopyd(RandomizableTransform, MapTransform):
    """Put a copy of an atlas in the place of a share of the items: its image and its label, warped exactly alike.

    The field is the affine to the item's case and a velocity drawn from those to this case and to another one; the
    image is restyled to the case's own. Where the registration errs a pseudo label teaches the error, a copy doesn't
    (Zhao et al. 2019; Lv et al. 2023).

    Args:
        labeller: has registered the atlas to every case.
        prob: share of the items.
        restyle: "histogram", "amplitude", or None for the atlas's own intensities.
    """

    def __init__(self, labeller: AtlasLabeller, prob: float, restyle: str | None = "histogram") -> None:
        MapTransform.__init__(self, ["image"])
        RandomizableTransform.__init__(self, prob)
        if restyle not in ("histogram", "amplitude", None):
            raise ValueError(f"restyle is {restyle!r}; wanted histogram, amplitude or null")
        self.labeller, self.restyle = labeller, restyle

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        labeller, case = self.labeller, data["case"]
        registered = labeller.registered[int(self.R.randint(len(labeller.registered)))]
        others = sorted(labeller.unlabeled - {case})
        other = others[int(self.R.randint(len(others)))] if others else None
        velocity = mix_velocities(registered.velocity(case), registered.velocity(other), self.R)
        image, label = (t.cpu() for t in registered.atlas.aligned(registered.affine(case), velocity))
        style = plain(data["image"]).float().cpu()
        if self.restyle == "histogram":
            inside = known_share(label, 0) > 0.5
            image = match_histogram(image, style, inside, labeller.inside(data["image"])[0].cpu() > 0.5)
        elif self.restyle == "amplitude":
            image = exchange_amplitude(image, style)
        return {**data, "image": image, "pseudo_label": label}


class AddAlignedAtlasd(MapTransform, RandomizableTrait):
    """Add the affinely aligned atlas: `moving` [C, H, W, D] and `moving_label` [K, H, W, D]; made on the fly.

    Beside it `inside` [1, H, W, D], 0 where the image was not scanned.
    """

    def __init__(self, labeller: AtlasLabeller) -> None:
        super().__init__(["case"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        moving, moving_label = self.labeller.aligned(data["case"])
        inside = self.labeller.inside(data["image"])[0]
        return {**data, "moving": moving.cpu(), "moving_label": moving_label.cpu(), "inside": inside.cpu()}


class TrainPreprocessing(Compose):
    """What stage 2 learns from, turned and scaled alike, with other contrast and noise in the image.

    Args:
        labeller, online: see `AddTargetsd`.
        teacher: its features are added where there is one.
        augmentation: of `image`, `pseudo_label`, `moving` and `moving_label`.
        copies: share of the items that become a copy of the atlas, see `RandAlignedCopyd`; 0 for none.
        restyle: see there; of the copies.
        randomise: share of the items that become a copy of random contrast, see `RandomisedCopyd`; 0 for none.
    """

    def __init__(
        self,
        labeller: AtlasLabeller,
        teacher: SamTeacher,
        augmentation: Compose,
        online: bool = False,
        copies: float = 0.0,
        restyle: str | None = "histogram",
        randomise: float = 0.0,
    ) -> None:
        keys = ["image", "pseudo_label", "moving", "moving_label"]
        steps = [
            AddTargetsd(labeller, online),
            AddTeacherd(teacher),
            augmentation,
            EnsureTyped(["inside", *keys], track_meta=False, allow_missing_keys=True),
        ]
        # a transform that does nothing would still change what those behind it draw
        if number("randomise", randomise) > 0:
            pixdim = labeller.cohort.grid.pixdim
            steps.insert(1, RandomisedCopyd(pixdim, label="pseudo_label", prob=randomise))
        if number("copies", copies) > 0:
            steps.insert(1, RandAlignedCopyd(labeller, copies, optional(restyle)))
        super().__init__(steps)
