"""How fast the deployed model is, as ratios within one run.

    python -m benchmarks.speed IMAGE [--model bundles/rrl_medsam/models/model.pt]

Times the network against instance-optimised registration on the same grid, inference from file to file against one pass
of SAM ViT-B (224 px, random weights: the time is the same) over the slices, and says where inference spends its time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import list_data_collate
from rich.console import Console
from rich.table import Table

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "rrl_medsam"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.registration.affine import register_affine  # noqa: E402
from scripts.common.registration.deformation import register_velocity  # noqa: E402
from scripts.common.sam.build import build_sam  # noqa: E402
from scripts.common.sam.features.volume import encode_volume  # noqa: E402
from scripts.common.serving.inferers import AffineTTAInferer  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402


def _apply(transform: Callable[[dict[str, Any]], object], item: dict[str, Any]) -> None:
    transform(dict(item))


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the median wall seconds of a few calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("image")
    arguments.add_argument("--model", default=str(BUNDLE / "models" / "model.pt"))
    arguments.add_argument("--instance-steps", type=int, default=60)
    arguments.add_argument("--sam-slices", type=int, default=8, help="slices timed; the pass is scaled to all of them")
    options = arguments.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "inference.json"))
        parser.update(
            {"bundle_root": str(BUNDLE), "ckpt_path": options.model, "output_dir": folder, "dataset_dir": options.image}
        )
        network = parser.get_parsed_content("network").eval()
        tensors = torch.load(options.model, weights_only=True)
        network.load_state_dict(tensors)
        inferer, post = parser.get_parsed_content("inferer"), parser.get_parsed_content("postprocessing")
        pre = parser.get_parsed_content("preprocessing")
        single = AffineTTAInferer(0, amp=inferer.amp)

        item = {"image": options.image}
        stages: dict[str, float] = {}
        for transform in pre.transforms:
            before = item
            stages[type(transform).__name__] = seconds(partial(_apply, transform, before))
            item = transform(dict(before))
        image = plain(list_data_collate([item])["image"])
        stages["network, one pass"] = network_time = seconds(lambda: single(image, network))
        stages[f"network, {inferer.views} test-time views"] = seconds(lambda: inferer(image, network)) - network_time
        item["pred"] = inferer(image, network)[0]
        for transform in post.transforms:
            before = item
            name = f"{type(transform).__name__} (after)"
            stages[name] = stages.get(name, 0) + seconds(partial(_apply, transform, before))
            item = transform(dict(before))
        total = sum(stages.values())

        moving = image.roll(2, 2)

        def registration() -> None:
            affine = register_affine(image, moving)
            register_velocity(image, moving, affine, steps=options.instance_steps)

        registration_time = seconds(registration, 1)
        sam = build_sam("sam_vit_b", image_size=224, pretrained=False)
        depth = int(item["image"].meta["spatial_shape"][2])
        native = torch.rand(1, 1, 224, 224, options.sam_slices)
        sam_time = seconds(lambda: encode_volume(sam, native), 1) * depth / options.sam_slices

    console = Console()
    table = Table(title="Where inference spends its time")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for name, value in stages.items():
        table.add_row(name, f"{value:.3f}", f"{value / total:.0%}")
    table.add_row("file to file", f"{total:.3f}", "100%")
    console.print(table)
    grid = "x".join(str(n) for n in image.shape[2:])
    views_time = stages[f"network, {inferer.views} test-time views"] + network_time
    print(f"grid {grid}: network, one pass {network_time:.3f} s, with test-time views {views_time:.3f} s")
    ratios = f"{registration_time / network_time:.0f} times one pass, {registration_time / views_time:.0f} times all"
    print(f"instance-optimised registration {registration_time:.2f} s: {ratios}")
    print(f"SAM ViT-B over {depth} slices {sam_time:.1f} s: {sam_time / total:.0f} times file to file ({total:.2f} s)")


if __name__ == "__main__":
    main()
