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
    (fixed, inside), finer = labeller.view({"image": image}), labeller.finer
    fields, similarity = [], []
    for atlas in labeller.atlases:
        affine = atlas.find_affine(fixed, inside)
        velocity = trusted(atlas.velocities(fixed, affine, inside))
        if labeller.guided_steps and prediction is not None:
            velocity = atlas.guide(fixed, affine, velocity, prediction, labeller.guided_steps, inside)
        fields.append((affine, velocity))
        similarity.append(atlas.similarity(fixed, affine, velocity, inside))
    if finer is not None:
        scan = finer.scans.scan(image)
        near = nearest([float(one.nanmean()) for one in similarity])
        gone_on = {number: labeller.registered[number].finer.go_on(scan, *fields[number]) for number in near}
        label, folding = finer.propagate(scan, gone_on)
        return Propagated(label, scan.image, folding)
    pairs = zip(labeller.atlases, fields, strict=True)
    labels, ddfs = zip(*(atlas.propagate(*found, inside) for atlas, found in pairs), strict=True)
    return Propagated(fuse_by_similarity(labels, similarity), image, max(float(folding_percent(ddf)) for ddf in ddfs))
