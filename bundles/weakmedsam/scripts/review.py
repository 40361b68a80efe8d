"""What a person needs to reject a pseudo label: a volume to look at, and a page with a picture and numbers of each."""

from __future__ import annotations

from typing import Any

from .common.pseudo_labels.review import FOLDER, LabelReview

__all__ = ["FOLDER", "MEANING", "Review", "supervision"]

JUDGED = {"agreement": "agreement", "z_consistency": "consistency"}
MEANING = (
    "Agreement is the Dice of the pseudo label with its prior alone, consistency that of neighbouring slices; lowest "
    "is over the labels. A consistency far below that of the other cases says that the label jumps."
)


class Review(LabelReview):
    """`pseudo_labels.review.LabelReview` beside typical volumes, agreement with the prior and between the slices.

    A case is left out of the training that follows by naming it in the datalist's `reject` and resuming, or starting
    anew.
    """

    meaning = MEANING

    def introduction(self) -> str:
        return (
            f"{supervision(self.labeller)} {self.cohort.describe_share()}.\n\n"
            "To leave a case out of the training, put its id into the list reject of the datalist and run again. Of "
            "each case look for: a volume far from the typical one, a mask that jumps from slice to slice, another "
            "structure than the one meant. No number here compares with truth."
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case, for a first look: volumes, and the lowest of what is judged label by label."""
        rows = []
        for case in self.worst_first():
            judged = self.labeller.judgement(case)
            row: dict[str, Any] = {"scan": case, **self.volumes(case)}
            row |= {f"lowest {words}": min(judged[name].values()) for name, words in JUDGED.items()}
            rows.append(row | {"learnt from": "yes" if case in self.selected else "no"})
        return rows

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case: its volume beside the typical one, positive slices, further numbers."""
        judged, share = self.labeller.judgement(case), self.cohort.slice_labels[case].share
        return [
            {
                "structure": self.cohort.labels[int(value)],
                "volume (ml)": volume,
                "typical volume (ml)": self.cohort.locations[int(value)].volume_ml,
                "positive slices (%)": 100 * float(positive),
                **{words: judged[name][value] for name, words in JUDGED.items()},
            }
            for (value, volume), positive in zip(judged["volume_ml"].items(), share, strict=True)
        ]

    def doubt(self, case: str) -> float:
        """Return how far a case's label of least consistency jumps from slice to slice."""
        return -min(self.labeller.judgement(case)["z_consistency"].values())

    def strips(self) -> dict[str, dict[str, list[float]]]:
        """Return agreement and consistency of each case by label."""
        judged = [self.labeller.judgement(case) for case in self.labeller.cases]
        return {
            self.cohort.labels[int(value)]: {
                words: [one[key][value] for one in judged] for key, words in JUDGED.items()
            }
            for value in (judged[0]["volume_ml"] if judged else {})
        }


def supervision(labeller: Any) -> str:
    """Return in a sentence what the user has told the method beside the images."""
    said = ["presence bits of the slices"]
    if labeller.prior == "box":
        said.append("one typical box for each label")
    if labeller.threshold == "size":
        said.append("a rough volume for each label")
    return f"Supervision: {' and '.join([', '.join(said[:-1]), said[-1]] if len(said) > 1 else said)}."
