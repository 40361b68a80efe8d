from __future__ import annotations

from bundle_path import import_bundle

generalists = import_bundle("semisam_plus", "generalists")


def test_all_generalists_answer_by_one_interface() -> None:
    for name in ("SliceGeneralist", "VolumeGeneralist"):
        assert issubclass(getattr(generalists, name), generalists.Generalist)
    assert all(hasattr(generalists, name) for name in generalists.__all__)
