"""The mask decoder of SAM-Med3D, under the parameter names of its checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..members.segment_anything_import import load_segment_anything
from .encoder import ChannelNorm3d


class MaskDecoder3d(nn.Module):
    """Tokens of image and prompts to mask logits at 4 voxels per token and axis.

    The transformer is `segment_anything`'s own: it sees tokens, not axes. Computes what the public repository
    uni-medical/SAM-Med3D computes. The predicted IoU was not trained against anything there: it is no confidence.

    Args:
        channels: width of the tokens, a multiple of 16.
        mlp_channels: of the transformer's MLPs.
    """

    def __init__(self, channels: int, mlp_channels: int = 2048, mask_tokens: int = 4) -> None:
        super().__init__()
        modeling = load_segment_anything()
        mlp = modeling.mask_decoder.MLP
        self.transformer = modeling.TwoWayTransformer(2, channels, num_heads=8, mlp_dim=mlp_channels)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(mask_tokens, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(channels, channels // 4, 2, 2),
            ChannelNorm3d(channels // 4),
            nn.GELU(),
            nn.ConvTranspose3d(channels // 4, channels // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            mlp(channels, channels, channels // 8, 3) for _ in range(mask_tokens)
        )
        self.iou_prediction_head = mlp(channels, 256, mask_tokens, 3)

    def forward(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, multimask_output: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts on one image, or each on its own.

        Args:
            image_embeddings: [1 or B, C, n, n, n].
            image_pe: position code of the tokens [1, C, n, n, n].
            sparse: [B, N, C].
            dense: [B, C, n, n, n].
            multimask_output: False for the one mask that SAM-Med3D was trained on, True for the three others.

        Returns:
            Logits [B, 1 or 3, 4n, 4n, 4n] and predicted IoU [B, 1 or 3].
        """
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        batch, count = sparse.shape[0], self.mask_tokens.num_embeddings
        learnt = torch.cat((self.iou_token.weight, self.mask_tokens.weight)).expand(batch, -1, -1)
        tokens = torch.cat((learnt, sparse), 1)
        image = image_embeddings + dense
        # segment_anything wants two axes and makes one of them: [B, C, n, n, n] -> [B, C, n, n^2]
        tokens, keys = self.transformer(image.flatten(3), image_pe.flatten(3).expand(batch, -1, -1, -1), tokens)
        upscaled = self.output_upscaling(keys.transpose(1, 2).reshape(image.shape))
        chosen = list(range(count))[wanted]
        kernels = torch.stack([self.output_hypernetworks_mlps[index](tokens[:, 1 + index]) for index in chosen], 1)
        # [B, masks, C / 8] x [B, C / 8, voxels] -> [B, masks, 4n, 4n, 4n]
        logits = (kernels @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        return logits, self.iou_prediction_head(tokens[:, 0])[:, wanted]
