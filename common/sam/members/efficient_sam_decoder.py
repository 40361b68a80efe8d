"""EfficientSAM's prompt encoder and mask decoder: their own parameter names, called as those of `segment_anything`."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .segment_anything_import import load_segment_anything

SLOTS = 6  # points that a prompt has, filled up; a box takes two


class EfficientPromptEncoder(nn.Module):
    """Points and boxes to tokens.

    EfficientSAM has no mask prompts, and an outside point (label 0) is a position without a learnt code: the weights
    don't know it from an inside one.
    """

    def __init__(self, channels: int, tokens: int, image_size: int) -> None:
        super().__init__()
        self.image_embedding_size = (tokens, tokens)
        self.input_image_size = (image_size, image_size)
        self.mask_input_size = (4 * tokens, 4 * tokens)
        self.pe_layer = load_segment_anything().prompt_encoder.PositionEmbeddingRandom(channels // 2)
        self.invalid_points = nn.Embedding(1, channels)
        self.point_embeddings = nn.Embedding(1, channels)
        self.bbox_top_left_embeddings = nn.Embedding(1, channels)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, channels)

    def get_dense_pe(self) -> Tensor:
        """Return the position code of the tokens [1, C, t, t]."""
        return self.pe_layer(self.image_embedding_size)[None]

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return sparse [N, 6, C], and zeros [N, C, 1, 1] in place of a dense prompt.

        Args:
            points: positions [N, n, 2] (x, y) in pixels, pixel i centred at i, and labels [N, n]: 1 inside, 0 outside,
                2 and 3 the corners of a box, -1 fills up.
            boxes: [N, 4] x0, y0, x1, y1.

        Raises:
            InputError: mask prompts, no prompt, or more than six points (a box counts as two).
        """
        if masks is not None:
            raise InputError("EfficientSAM: found mask prompts, wanted points or boxes: it has no others")
        given = [] if points is None else [(points[0], points[1])]
        if boxes is not None:
            corners = boxes.unflatten(-1, (2, 2))
            given.append((corners, corners.new_tensor([2, 3]).expand(len(corners), 2)))
        if not given:
            raise InputError("EfficientSAM: found no prompt, wanted points or boxes")
        positions, labels = (torch.cat(parts, 1) for parts in zip(*given, strict=True))
        spare = SLOTS - positions.shape[1]
        if spare < 0:
            raise InputError(f"EfficientSAM: found {positions.shape[1]} points, wanted {SLOTS} or fewer, boxes as two")
        labels = F.pad(labels, (0, spare), value=-1)[..., None]
        positions = F.pad(positions, (0, 0, 0, spare)).where(labels != -1, -1)
        sparse = self.pe_layer.forward_with_coords(positions + 0.5, self.input_image_size)
        learnt = {
            -1: self.invalid_points,
            1: self.point_embeddings,
            2: self.bbox_top_left_embeddings,
            3: self.bbox_bottom_right_embeddings,
        }
        for label, embedding in learnt.items():
            sparse = sparse + embedding.weight * (labels == label)
        return sparse, sparse.new_zeros(len(sparse), sparse.shape[-1], 1, 1)


class Perceptron(nn.Module):
    """Linear layers through `widths`, a GELU after each but the last (`fc`)."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        hidden = pairwise(widths[:-1])
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in hidden))
        self.fc = nn.Linear(widths[-2], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x))


class TwoWayBlock(nn.Module):
    """`segment_anything`'s TwoWayAttentionBlock with another MLP and self-attention.

    The prompts' position code is added to the queries themselves (SAM adds it where they are compared only), and the
    first block, which has none added, keeps its residual.
    """

    def __init__(self, block: nn.Module, channels: int, add_position: bool) -> None:
        super().__init__()
        self.add_position = add_position
        self.self_attn, self.norm1 = block.self_attn, block.norm1
        self.cross_attn_token_to_image, self.norm2 = block.cross_attn_token_to_image, block.norm2
        self.mlp, self.norm3 = Perceptron(channels, 8 * channels, channels), block.norm3
        self.norm4, self.cross_attn_image_to_token = block.norm4, block.cross_attn_image_to_token

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.add_position:
            queries = queries + query_pe
        queries = self.norm1(queries + self.self_attn(q=queries, k=queries, v=queries))
        attended = self.cross_attn_token_to_image(q=queries + query_pe, k=keys + key_pe, v=keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        attended = self.cross_attn_image_to_token(q=keys + key_pe, k=queries + query_pe, v=queries)
        return queries, self.norm4(keys + attended)


class EfficientMaskDecoder(nn.Module):
    """Tokens of image and prompts to mask logits at 4 pixels per token and axis.

    Computes what the public repository
    yformer/EfficientSAM computes.
    """

    def __init__(self, channels: int, mask_tokens: int = 4) -> None:
        super().__init__()
        self.transformer = load_segment_anything().TwoWayTransformer(2, channels, num_heads=8, mlp_dim=1)
        blocks = enumerate(self.transformer.layers)
        self.transformer.layers = nn.ModuleList(TwoWayBlock(block, channels, index > 0) for index, block in blocks)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(mask_tokens, channels)
        middle, narrow = channels // 4, channels // 8
        self.final_output_upscaling_layers = nn.Sequential(
            nn.Sequential(nn.ConvTranspose2d(channels, middle, 2, 2), nn.GroupNorm(1, middle), nn.GELU()),
            nn.Sequential(nn.ConvTranspose2d(middle, narrow, 2, 2), nn.GELU()),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(channels, channels, channels, narrow) for _ in range(mask_tokens)
        )
        self.iou_prediction_head = Perceptron(channels, channels, channels, mask_tokens)

    def forward(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Answer N prompts.

        Args:
            image_embeddings: [1 or N, C, h, w].
            image_pe: position code of the tokens [1, C, h, w].
            sparse: [N, n, C].
            dense: added to the embeddings, [N, C, h, w] or [N, C, 1, 1].
            multimask_output: False for the mask of token 0, True for those of the three others.

        Returns:
            Logits [N, 1 or 3, 4h, 4w] and predicted IoU [N, 1 or 3].
        """
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        count = len(sparse)
        learnt = torch.cat((self.iou_token.weight, self.mask_tokens.weight)).expand(count, -1, -1)
        image = image_embeddings + dense
        tokens, keys = self.transformer(image, image_pe.expand(count, -1, -1, -1), torch.cat((learnt, sparse), 1))
        upscaled = self.final_output_upscaling_layers(keys.transpose(1, 2).reshape(image.shape))
        chosen = list(enumerate(self.output_hypernetworks_mlps))[wanted]
        kernels = torch.stack([mlp(tokens[:, 1 + index]) for index, mlp in chosen], 1)
        # [N, masks, C / 8] x [N, C / 8, pixels] -> [N, masks, 4h, 4w]
        logits = (kernels @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        return logits, self.iou_prediction_head(tokens[:, 0])[:, wanted]
