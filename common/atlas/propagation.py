"""Label propagation: what the atlases, registered anew, say of a scan that no registration is kept of."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..pseudo_labels.opinions import fuse_by_similarity
from ..registration.fields import folding_percent
from .atlas import trusted
from .finer_labels import nearest
from .labeller import AtlasLabeller


class Propagated(NamedTuple):
    """A label from registrations alone.

    Attributes:
        label: [K, H, W, D].
        image: [C, H, W, D] on the same voxels: those of the common grid, or finer ones, where registrations go on.
        folding: per cent of the voxels, in the worst field.
    """

    label: Tensor
    image: Any
    folding: float


def propagate(labeller: AtlasLabeller, image: Any, prediction: Tensor | None = None) -> Propagated:
    """Return the label that the atlases of a labeller give an image.

    Args:
        image: [C, H, W, D] on the common grid.
        prediction: [K, H, W, D], which guides the registration on the common grid where there are steps for that.
    """
    fixed, inside = labeller.view({"image": image})
    finer = labeller.finer
    labels, similarity, folding, found = [], [], [], []
    for one in labeller.registered:
        atlas = one.atlas
        affine = atlas.find_affine(fixed, inside)
        velocity = trusted(atlas.velocities(fixed, affine, inside))
        if labeller.guided_steps and prediction is not None:
            velocity = atlas.guide(fixed, affine, velocity, prediction, labeller.guided_steps, inside)
        label, ddf = atlas.propagate(affine, velocity, inside)
        labels.append(label)
        similarity.append(atlas.similarity(fixed, affine, velocity, inside))
        folding.append(float(folding_percent(ddf)))
        found.append((affine, velocity))
    if finer is None:
        return Propagated(fuse_by_similarity(labels, similarity), image, max(folding))
    scan = finer.scans.scan(image)
    near = nearest([float(one.nanmean()) for one in similarity])
    fields = {number: labeller.registered[number].finer.go_on(scan, *found[number]) for number in near}
    label, worst = finer.propagate(scan, fields)
    return Propagated(label, scan.image, worst)
