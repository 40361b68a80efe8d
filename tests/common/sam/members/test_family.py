from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from common.sam.build import build_sam
from common.sam.members.family import FAMILY, find_member
from common.sam.members.record import SliceMember, VolumeMember

ROOT = Path(__file__).parents[4]
SLICES = [name for name, member in FAMILY.items() if isinstance(member, SliceMember)]


def test_published_names() -> None:
    assert list(FAMILY) == [
        *("mobile_sam", "lite_medsam", "sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam_vit_b", "samus"),
        *("efficient_sam_ti", "efficient_sam_s", "sam_med3d", "sam_med3d_turbo", "segany_pet"),
    ]


@pytest.mark.parametrize("name", FAMILY)
def test_weights_say_their_file_where_it_comes_from_and_under_which_terms(name) -> None:
    weights = FAMILY[name].weights
    assert Path(weights.file_name).suffix in (".pt", ".pth") and "github.com/" in weights.origin and weights.licence
    if weights.carrier is not None:  # what is fetched is checked
        assert re.fullmatch("[0-9a-f]{64}", weights.sha256) and weights.size > 0
        assert weights.carrier.installed[1].endswith(weights.file_name)


@pytest.mark.parametrize("name", SLICES)
def test_a_record_says_what_its_network_is(name) -> None:
    member = FAMILY[name]
    size = member.preprocessing.image_size
    with torch.device("meta"):
        sam = build_sam(name, pretrained=False)
    assert size % member.stride == 0 and sam.prompts is member.prompts and sam.stride == member.stride
    assert member.prompts.masks == hasattr(sam.prompt_encoder, "mask_downscaling")
    tuned = {each for each, _ in sam.image_encoder.named_parameters() if re.match(member.tuned, each)}
    assert tuned and not any(each.startswith("neck.") for each in tuned)


def test_who_was_trained_with_boxes_alone_and_who_wants_a_margin() -> None:
    assert [name for name in SLICES if not FAMILY[name].prompts.points] == ["lite_medsam", "medsam_vit_b"]
    assert {name: FAMILY[name].prompts.box_margin for name in SLICES if FAMILY[name].prompts.box_margin} == {
        "lite_medsam": 0.1
    }


def test_a_member_is_found_by_name_and_kind() -> None:
    assert find_member("samus", SliceMember) is FAMILY["samus"]
    assert find_member("segany_pet", VolumeMember).image_size == 128
    with pytest.raises(InputError, match=r"found 'samus', wanted one of sam_med3d, sam_med3d_turbo, segany_pet$"):
        find_member("samus", VolumeMember)


def test_nobody_else_decides_by_a_members_name() -> None:
    own = ROOT / "common/sam/members/family.py"
    sources = [path for folder in ("common", "tools") for path in (ROOT / folder).rglob("*.py")]
    scripts = (ROOT / "bundles").glob("*/scripts/**/*.py")
    sources += [path for path in scripts if "common" not in path.relative_to(ROOT).parts]  # linked into each
    assert own in sources and len(sources) > 100
    assert named_in(own) == set(FAMILY)
    assert {path: named_in(path) for path in sources if path != own and named_in(path)} == {}


def named_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in FAMILY}
