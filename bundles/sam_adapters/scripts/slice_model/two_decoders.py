"""Two decoders that can be asked by prompts, each by what the other one has found (CPC-SAM, Miao et al. 2024)."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from ..common.imaging.morphology import main_components
from ..common.imaging.prompts import bounding_boxes, confident_points, jitter_boxes
from ..common.sam.build import SamModel
from .answer import Answer
from .token_decoder import TokenDecoder


class ClassPrompts(nn.Module):
    """Tokens that say where each structure is: a point, or the corners of a box, with an embedding of each structure.

    Embeddings begin as SAM's for a point inside, and for the corners.

    Args:
        sam: has the prompt encoder of `segment_anything`; one that takes no points gets boxes.
        structures: P.

    forward: places [N, P, n, 2] (row, column) in pixels of the encoder's square, n is 1 for points and 2 for boxes, NaN
        where a structure is not asked about -> tokens [N, P n, C].
    """

    def __init__(self, sam: SamModel, structures: int) -> None:
        super().__init__()
        self._prompt_encoder = [sam.prompt_encoder]  # frozen; in a list it is no part of this module
        self.boxes, self.side = not sam.prompts.points, sam.preprocessing.image_size
        rows = (2, 3) if self.boxes else (1,)
        own = torch.cat([sam.prompt_encoder.point_embeddings[row].weight.detach() for row in rows])
        self.structures = nn.Parameter(own + 0.1 * own.std() * torch.randn(structures, *own.shape))
        self.absent = nn.Parameter(sam.prompt_encoder.not_a_point_embed.weight.detach().clone())

    def forward(self, places: Tensor) -> Tensor:
        size, asked = (self.side, self.side), ~places.isnan()[..., :1]
        where = places.nan_to_num().flatten(1, 2).flip(-1)
        position = self._prompt_encoder[0].pe_layer.forward_with_coords(where, size)
        tokens = position.unflatten(1, places.shape[1:3]) + self.structures
        return torch.where(asked, tokens, self.absent).flatten(1, 2)


class TwoDecoders(nn.Module):
    """Two `TokenDecoder`s with weights and random starts of their own.

    Args:
        sam, classes, full: see `TokenDecoder`.

    forward: see `TokenDecoder`; logits are the logarithm of the mean of both decoders' probabilities, unprompted.
    """

    def __init__(self, sam: SamModel, classes: int, full: bool = False) -> None:
        super().__init__()
        self.decoders = nn.ModuleList(TokenDecoder(sam, classes, full) for _ in range(2))
        self.prompts = nn.ModuleList(ClassPrompts(sam, classes - 1) for _ in range(2))
        self.preprocessing, self.boxes, self.structures = sam.preprocessing, not sam.prompts.points, classes - 1

    def ask(
        self, which: int, features: Tensor, position: Tensor, detail: Tensor | None = None, places: Tensor | None = None
    ) -> Tensor:
        """Return the logits [N, K, m, m] of a decoder, asked by itself or by places, see `ClassPrompts`."""
        prompts = None if places is None else self.prompts[which](places.to(features.device))
        return self.decoders[which](features, position, detail, prompts).logits

    def forward(self, features: Tensor, position: Tensor, detail: Tensor | None = None) -> Answer:
        both = torch.stack([self.ask(which, features, position, detail).float() for which in range(2)])
        return Answer(both.log_softmax(2).logsumexp(0) - log(2))

    def places(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return prompts for what was found on slices: of each structure's largest component.

        Args:
            classes: [N, rows, columns] of the slices, int64.

        Returns:
            the deepest pixel by the distance transform, and one of its pixels at random; of a SAM that takes boxes
            alone the box, and one whose edges are moved at random. Both as `ClassPrompts` takes them, on the CPU.
        """
        size = classes.shape[1:]
        found = torch.full((2, len(classes), self.structures, 2 if self.boxes else 1, 2), torch.nan)
        for n, seen in enumerate(classes.cpu()):
            for structure in seen[seen > 0].unique().tolist():
                component = main_components(seen == structure, share=1.0)[0]
                found[:, n, structure - 1] = _boxes(component) if self.boxes else _points(component)
        resized = self.preprocessing.resized_size(*size)
        scale = found.new_tensor([new / old for new, old in zip(resized, size, strict=True)])
        centre, drawn = found * scale
        return centre, drawn


def _points(component: Tensor) -> Tensor:
    """Return the deepest pixel of a component [rows, columns] and any of its pixels, [2, 1, 2]."""
    pixels = component.nonzero()
    drawn = pixels[torch.randint(len(pixels), (1,))] + 0.5
    return torch.stack([confident_points(component.float(), 1), drawn])


def _boxes(component: Tensor) -> Tensor:
    """Return the box of a component [rows, columns] and a moved one by its corners, [2, 2, 2]."""
    box = bounding_boxes(component[None])
    return jitter_boxes(box, 2, component.shape, torch.default_generator)[:, 0].unflatten(1, (2, 2))
