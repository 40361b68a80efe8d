"""A prediction gets a row for each label, and a line where a person should look."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer

from common.review.add_review import AddReviewd
from common.review.features import image_quantiles, label_features
from common.review.knowledge import learn
from common.review.second_view import ReviewedInferer

AFFINE = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))


def scan(image):
    meta = {"original_affine": AFFINE, "spatial_shape": list(image.shape[1:]), "filename_or_obj": "scan.nii.gz"}
    return MetaTensor(image, affine=AFFINE, meta=meta)


def block(strength, size=12):
    pred = torch.zeros(3, 24, 24, 24)
    pred[1, 6 : 6 + size, 6 : 6 + size, 6 : 6 + size] = strength
    pred[0] = 1 - pred[1]
    return pred


def image(seed, bright=1.0):
    return scan(torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(seed)) * bright)


def model_that_knows(tmp_path):
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    found = [label_features(block(0.95, n), (2, 2, 2)) for n in (11, 12, 12, 13)]
    cases = [dict(zip((4, 7), own, strict=True)) for own in found]
    learn(cases, [image_quantiles(image(n)) for n in range(4)], [{}] * 4, "made up").save(model)
    return model


def test_what_is_sure_and_usual_needs_no_look_and_what_is_missing_does(tmp_path, capsys):
    add = AddReviewd("pred", [0, 4, 7], str(model_that_knows(tmp_path)))
    result = add({"pred": block(0.95), "image": image(5)})
    sure, missing = result["review"]
    assert sure["label"] == 4 and not sure["look"] and sure["predicted_dice"] > 0.9 and sure["view"] is None
    assert missing["label"] == 7 and missing["why"] == ["nothing found of label 7"]
    assert result["result"]["review"] is result["review"]  # what MONAI Label answers with
    assert capsys.readouterr().out == "look at scan.nii.gz: nothing found of label 7\n"


def test_the_unsure_the_too_small_and_the_strange_image_are_named(tmp_path):
    add = AddReviewd("pred", [0, 4, 7], str(model_that_knows(tmp_path)))

    def why(pred, seen):
        return add({"pred": pred, "image": seen})["review"][0]["why"]

    assert why(block(0.51), image(5)) == ["label 4 is unsure (Dice of about 0.68 expected)"]
    assert why(block(0.95, 3), image(5)) == ["label 4 has a volume of 0.2 ml unlike what was learnt from"]
    assert why(block(0.95), image(5, bright=0.2)) == ["the image is unlike those that were learnt from"]


def test_a_second_answer_that_disagrees_lowers_the_dice(tmp_path):
    class Anywhere(torch.nn.Module):
        def forward(self, seen):
            return block(0.95)[None].clamp_min(1e-7).log()  # at the same place, however the scan is turned

    inferer = ReviewedInferer(SimpleInferer())
    (tmp_path / "model.pt").write_bytes(b"weights")
    add = AddReviewd("pred", [0, 4, 7], str(tmp_path / "model.pt"))
    found = inferer(image(0)[None], Anywhere())[0].exp()
    row = add({"pred": found, "image": image(0)})["review"][0]
    assert row["view"] < 0.9 and row["predicted_dice"] < row["own"]


def test_who_does_not_want_it_gets_the_item_as_it_is(tmp_path):
    item = {"pred": block(0.9), "image": image(0)}
    assert AddReviewd("pred", [0, 4, 7], "nothing.pt", wanted=False)(item).keys() == item.keys()
