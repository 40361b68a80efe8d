"""What ADA-SAM's masks and bits are measured by, slice and class by slice and class."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from ..common.sam.members.preprocessing import Preprocessing
from ..common.sam.patch_map import largest_of_patches
from .pairs import Pairs


def presence_loss(logits: Tensor, bits: Tensor, positive_share: Tensor | None = None) -> Tensor:
    """Return the binary cross entropy of presence logits [N, P] and bits bool [N, P], a mean.

    Args:
        positive_share: [P], how often each class is there; slices with it and without it then weigh the same over the
            whole data set. Shares count as 0.05 to 0.95 at most, so that no slice weighs more than ten others.
    """
    weight = None
    if positive_share is not None:
        share = positive_share.to(logits.device).clamp(0.05, 0.95)
        weight = torch.where(bits, 0.5 / share, 0.5 / (1 - share))
    return F.binary_cross_entropy_with_logits(logits.float(), bits.float(), weight)


def locate_loss(maps: Tensor, truth: Tensor, annotated: Tensor) -> Tensor:
    """Return Dice + cross entropy of activation maps, as logits of the masks, on the slices that have true masks.

    Bits alone can't tell apart what begins and ends on the same slices; a few masks can, long before they teach the
    decoder. Dice counts where the class is.

    Args:
        maps: [N, P, rows, columns].
        truth: bool [N, P, rows, columns].
        annotated: bool [N].
    """
    logits, target = maps[annotated].float(), truth[annotated].float()
    if not len(logits):
        return maps.float().sum() * 0
    there = target.flatten(2).any(2)
    loss = F.binary_cross_entropy_with_logits(logits, target)
    return loss + DiceLoss(sigmoid=True)(logits[there][:, None], target[there][:, None]) if bool(there.any()) else loss


def pseudo_loss(logits: Tensor, taught: Tensor, confidence: float) -> Tensor:
    """Return Dice + cross entropy with the teacher's masks, at pixels where the teacher is confident.

    Args:
        logits: [M, rows, columns] of the student.
        taught: probabilities [M, rows, columns].
        confidence: pixels count where max(p, 1 - p) is above it, and are learnt as what is more probable.
    """
    target = (taught > 0.5).float()
    sure = (torch.maximum(taught, 1 - taught) > confidence).float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = ((entropy * sure).sum((1, 2)) / sure.sum((1, 2)).clamp_min(1)).mean()
    # MONAI's MaskedDiceLoss masks before the sigmoid, where a 0 is an opinion too
    return entropy + DiceLoss()((logits.sigmoid() * sure)[:, None], (target * sure)[:, None])


def patch_loss(patches: Tensor, pairs: Pairs, cam: Tensor, preprocessing: Preprocessing, confidence: float) -> Tensor:
    """Return the cross entropy of a patch map with true masks, and with activation maps where bits alone are known.

    A patch has a class where any of its pixels does. Of a class that is there without a mask, those patches count that
    the activation map is sure of; a map that is sure of no patch with the class is wrong, by the bit, and teaches
    nothing. A class that is not there is in no patch.

    Args:
        patches: logits [N, P, h, w] of the encoder's square.
        pairs: of the slices and classes.
        cam: [N, P, rows, columns] in [0, 1]; gets no gradient.
        preprocessing: of the SAM.
        confidence: a patch counts where max(p, 1 - p) is above it, p the largest value of its part of the map.
    """
    there = pairs.open[..., None, None]
    maps = torch.where(there, cam.detach().float(), pairs.truth.float())
    largest = largest_of_patches(maps, preprocessing, patches.shape[2:])
    found = largest > confidence
    sure = (found | (1 - largest > confidence)) & found.flatten(2).any(2)[..., None, None]
    known = torch.where(there, sure, (pairs.positive | pairs.negative)[..., None, None])
    entropy = F.binary_cross_entropy_with_logits(patches.float(), (largest > 0.5).float(), reduction="none")
    return (entropy * known).sum() / known.sum().clamp_min(1)


def agreement_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared distance of two answers' probabilities over the sum of their squares, 0 to 1, a mean.

    Args:
        first, second: logits [M, rows, columns].
    """
    first, second = first.sigmoid(), second.sigmoid()
    distance = (first - second).square().sum((1, 2))
    return (distance / (first.square() + second.square()).sum((1, 2)).clamp_min(1e-6)).mean()
