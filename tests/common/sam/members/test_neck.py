from __future__ import annotations

import torch

from common.sam.members.neck import ChannelNorm, make_neck
from common.sam.members.segment_anything_import import load_segment_anything


def test_the_neck_is_that_of_segment_anything() -> None:
    torch.manual_seed(0)
    published = load_segment_anything().ImageEncoderViT(img_size=16, embed_dim=8, depth=0, num_heads=1, out_chans=6)
    own = make_neck(8, 6)
    own.load_state_dict(published.neck.state_dict())
    x = torch.rand(2, 8, 5, 4)
    torch.testing.assert_close(own(x), published.neck(x))


def test_norm_is_over_the_channels_of_each_place() -> None:
    x = ChannelNorm(16)(torch.rand(2, 16, 3, 4) * 9)
    torch.testing.assert_close(x.mean(1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(1, correction=0), torch.ones(2, 3, 4), atol=1e-3, rtol=0)
