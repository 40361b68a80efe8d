"""How RRL-MedSAM learns: one objective a stage, batch -> losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..common.launch.words import optional_number, truth
from ..common.learning.distillation import FeatureDistillation
from ..common.learning.losses import SoftDiceCE
from ..common.registration.fields import integrate, smoothness, warp, warp_known
from ..common.registration.similarity import LocalNCCLoss
from ..common.tensors import grey, known_share, unless_all
from ..network import RRLMedSAMNetwork, mask_prompt
from .registration_network import RegistrationNetwork


class DistillationObjective(nn.Module):
    """Stage 1a: the general encoder learns the frozen SAM's features (L_rec).

    Batch: image [B, C, H, W, D], teacher [B, T, h, w, d].
    """

    def __init__(self, network: RRLMedSAMNetwork, distillation: FeatureDistillation) -> None:
        super().__init__()
        self.network, self.distillation = network, distillation

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = self.distillation(self.network.general_encoder(batch["image"])[-1], batch["teacher"])
        return {"loss": loss}


class JointRegistrationObjective(nn.Module):
    """Stage 1b: registration and segmentation share the medical encoder (L_JRS = L_sim + L_smo + L_seg).

    Batch: image (fixed), moving [B, C, H, W, D], moving_label [B, K, H, W, D]; moving is the affinely aligned atlas,
    all of whose classes are 0 where it was not scanned. inside [B, 1, H, W, D] says where the image was; without it,
    all.
    The inverse direction uses the negated velocity, where the authors' code calls the decoder a second time.

    Args:
        smooth_weight: of L_smo.
        segmentation_weight: of L_seg; 0 trains the registration alone.
        channel: of the images, that L_sim compares; None: the mean of all.
    """

    def __init__(
        self,
        network: RRLMedSAMNetwork,
        registration: RegistrationNetwork,
        smooth_weight: float = 0.5,
        segmentation_weight: float = 1.0,
        kernel_size: int = 7,
        channel: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.registration = network, registration
        self.similarity = LocalNCCLoss(kernel_size)
        self.channel = optional_number("sam_channel", channel, whole=True, least=0)
        self.smooth_weight, self.segmentation_weight = smooth_weight, segmentation_weight
        self.segmentation_loss = SoftDiceCE()

    def register(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the registration losses and the pseudo label [B, K, H, W, D], detached."""
        fixed, moving = batch["image"], batch["moving"]
        size = tuple(fixed.shape[2:])
        velocity = self.registration(moving, fixed)
        fixed, moving = grey(fixed, self.channel), grey(moving, self.channel)
        forward = integrate(velocity, size)
        inside = (batch.get("inside", torch.ones_like(fixed[:, :1])) > 0.5).float()  # turned, it is 1 but for rounding
        both = unless_all(inside), unless_all(known_share(batch["moving_label"]))
        warped, known = warp_known(moving, forward, *both)
        there = self.similarity(warped, fixed, known)
        warped, known = warp_known(fixed, integrate(-velocity, size), *both[::-1])
        losses = {
            "similarity": (there + self.similarity(warped, moving, known)) / 2,
            "smooth": smoothness(velocity).mean(),
        }
        return losses, warp(batch["moving_label"], forward.detach()) * inside

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses, pseudo_label = self.register(batch)
        losses["loss"] = losses["similarity"] + self.smooth_weight * losses["smooth"]
        if self.segmentation_weight > 0:
            losses["segmentation"] = self.segmentation_loss(self.network.forward_medical(batch["image"]), pseudo_label)
            losses["loss"] = losses["loss"] + self.segmentation_weight * losses["segmentation"]
        return losses


class MutualObjective(nn.Module):
    """Stage 2: pseudo labels teach both models, the general one's mask prompts the medical one (L_2).

    Batch: image, and pseudo_label [B, K, H, W, D]; or, with `joint`, moving and moving_label, from which the
    registration network makes the pseudo label anew in every step and goes on learning (the paper's form). With
    distillation, teacher.

    Args:
        prompt_dropout: share of steps in which the medical model sees "no mask"; makes it usable alone.
        train_general, train_medical: False leaves that model out; None: whatever the network answers with is trained.
        joint: registration losses of stage 1b; without `online` it learns from the labels of the bank instead.
        online: the paper's form, see above.
        distillation: keeps the general encoder near SAM's features, weight `distillation_weight`; None or 0 for off.
    """

    def __init__(
        self,
        network: RRLMedSAMNetwork,
        prompt_dropout: float = 0.1,
        train_general: bool | None = None,
        train_medical: bool | None = None,
        joint: JointRegistrationObjective | None = None,
        online: bool = True,
        distillation: FeatureDistillation | None = None,
        distillation_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.online = network, truth("online_labels", online)
        # what is not used is no part of the objective: its parameters would be optimised, and wait for gradients
        self.joint = joint if self.online else None
        self.distillation = distillation if distillation_weight > 0 else None
        self.prompt_dropout, self.distillation_weight = prompt_dropout, distillation_weight
        prompts = network.output != "medical" or network.prompt
        self.train_general = prompts if train_general is None else train_general
        self.train_medical = network.output != "general" if train_medical is None else train_medical
        self.segmentation_loss = SoftDiceCE()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        image = batch["image"]
        losses: dict[str, Tensor] = {}
        total = image.new_zeros((), dtype=torch.float32)
        if self.joint is None:
            target = batch["pseudo_label"]
        else:
            registration, target = self.joint.register(batch)
            losses.update(registration)
            total = total + registration["similarity"] + self.joint.smooth_weight * registration["smooth"]
        keep = (torch.rand(image.shape[0]) >= self.prompt_dropout).float().to(image.device)
        mask = None  # without the general model there is no prompt
        if self.train_general:
            features = self.network.general_encoder(image)
            general = self.network.general_decoder(features, image)
            mask = mask_prompt(general)
            losses["general"] = self.segmentation_loss(general, target)
            total = total + losses["general"]
            if self.distillation is not None:
                losses["distillation"] = self.distillation(features[-1], batch["teacher"])
                total = total + self.distillation_weight * losses["distillation"]
        if self.train_medical:
            losses["medical"] = self.segmentation_loss(self.network.forward_medical(image, mask, keep), target)
            total = total + losses["medical"]
        return {"loss": total, **losses}
