"""TinyViT, the image encoder of MobileSAM and LiteMedSAM, under the parameter names of their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .neck import make_neck


class ConvNorm(nn.Sequential):
    """Convolution without bias (`c`), then BatchNorm (`bn`)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)


class PatchEmbed(nn.Module):
    """Two convolutions from the image to the first tokens; together they step `stride` squared."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(inputs, channels // 2, kernel, stride),
            nn.GELU(),
            ConvNorm(channels // 2, channels, kernel, stride),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class InvertedBottleneck(nn.Module):
    """MBConv: expand, depthwise 3x3, project, with a residual; [B, C, H, W] -> the same."""

    def __init__(self, channels: int, expand: int = 4) -> None:
        super().__init__()
        hidden = channels * expand
        self.conv1 = ConvNorm(channels, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return F.gelu(x + y)


class PatchMerging(nn.Module):
    """Change of width between two stages, with a step of `stride`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Self-attention inside a window; a learnt bias per head and per absolute offset between two tokens."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.qkv_groups = heads  # q, k and v lie side by side inside each head
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        offset = (row[:, None] - row).abs() * window + (column[:, None] - column).abs()
        # not in the checkpoints, and the same for every input size
        self.register_buffer("attention_bias_idxs", offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, channels = x.shape
        # [n, t, C] -> [n, t, heads, 3 * C / heads]
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.heads, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        bias = self.attention_biases[:, self.attention_bias_idxs].to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return self.proj(x.transpose(1, 2).reshape(windows, tokens, channels))


class Mlp(nn.Module):
    """LayerNorm and two linear layers."""

    def __init__(self, channels: int, expand: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, channels * expand)
        self.fc2 = nn.Linear(channels * expand, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TransformerBlock(nn.Module):
    """Window attention, depthwise 3x3 convolution, MLP; [B, C, H, W] -> the same, any H and W."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, heads, window)
        self.local_conv = ConvNorm(channels, channels, 3, groups=channels)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self._attend(x))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        (batch, channels, height, width), w = x.shape, self.window
        # zeros at the right and bottom edge, before the norm, and not masked: so were the published weights trained
        x = F.pad(x, (0, -width % w, 0, -height % w))
        rows, columns = x.shape[2] // w, x.shape[3] // w
        x = x.reshape(batch, channels, rows, w, columns, w).permute(0, 2, 4, 3, 5, 1)
        x = self.attn(x.reshape(-1, w * w, channels))
        x = x.view(batch, rows, columns, w, w, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(batch, channels, rows * w, columns * w)[:, :, :height, :width]


class Stage(nn.Module):
    """Blocks of one width, then the step to the next."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Image encoder of MobileSAM and LiteMedSAM (TinyViT-5M).

    Input [B, 3, H, W] float, preprocessed; output [B, 256, ceil(H / stride), ceil(W / stride)]. The windows are fixed
    and their biases belong to them, so every input size works with the same weights. `neck` is a submodule: its input
    are the 320 channels of the last block.

    Args:
        patch_kernel, patch_stride: of the two first convolutions. MobileSAM 3 and 2 (stride 16 in all), LiteMedSAM 1
            and 1 (stride 4 in all).
        num_classes: width of the ImageNet head, which MobileSAM's checkpoint still carries and nothing uses; 0 for
            none.

    Computes what the public repositories ChaoningZhang/MobileSAM and bowang-lab/MedSAM (branch LiteMedSAM) compute.
    """

    def __init__(
        self,
        patch_kernel: int = 3,
        patch_stride: int = 2,
        num_classes: int = 0,
        channels: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (2, 4, 5, 10),
        windows: Sequence[int] = (7, 7, 14, 7),
        strides: Sequence[int] = (2, 2, 1),
        outputs: int = 256,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(3, channels[0], patch_kernel, patch_stride)
        self.layers = nn.ModuleList()
        for level, width in enumerate(channels):
            if level == 0:
                blocks = [InvertedBottleneck(width) for _ in range(depths[0])]
            else:
                blocks = [TransformerBlock(width, heads[level], windows[level]) for _ in range(depths[level])]
            last = level == len(channels) - 1
            self.layers.append(
                Stage(blocks, None if last else PatchMerging(width, channels[level + 1], strides[level]))
            )
        if num_classes:
            self.norm_head = nn.LayerNorm(channels[-1])
            self.head = nn.Linear(channels[-1], num_classes)
        self.neck = make_neck(channels[-1], outputs)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the neck [B, 320, H / stride, W / stride]."""
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.features(x))
