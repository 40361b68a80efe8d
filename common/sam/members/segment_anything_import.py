"""The `segment_anything` package with or without a torchvision that fits the installed torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from ...errors import InputError

PACKAGE = "segment_anything"
# the names that segment_anything/__init__.py offers, and the submodule each comes from
_PLAIN_NAMES = ("build_sam_vit_h", "build_sam_vit_l", "build_sam_vit_b", "sam_model_registry", "build_sam")
_TORCHVISION_NAMES = {"SamPredictor": "predictor", "SamAutomaticMaskGenerator": "automatic_mask_generator"}


def load_segment_anything() -> ModuleType:
    """Import `segment_anything` and return its `modeling` subpackage (ImageEncoderViT, PromptEncoder, MaskDecoder,
    ...).

    Only two conveniences of the package, the predictor and the mask generator, need torchvision, but its `__init__`
    imports both. torchvision may be absent, or built for another torch ("operator torchvision::nms does not exist").
    Where the plain import works nothing is touched. Where it fails, what the failed import left half loaded is taken
    out of `sys.modules`, and the package is registered without running its `__init__`; `import segment_anything` then
    gives everything but those two names, which say what they lack when they are asked for.

    Raises:
        InputError: the package is not installed.
    """
    if PACKAGE not in sys.modules:
        before = set(sys.modules)
        try:
            importlib.import_module(PACKAGE)
        except Exception as error:  # a torchvision that does not fit raises RuntimeError, ImportError, OSError, ...
            spec = importlib.util.find_spec(PACKAGE)
            if spec is None:
                problem = "segment_anything is not installed; wanted: pip install segment-anything==1.0"
                raise InputError(problem) from None
            if not _comes_from_torchvision(error):
                raise
            _forget(PACKAGE, sys.modules)
            _forget("torchvision", set(sys.modules) - before)
            _register_without_init(spec, error)
    return importlib.import_module(f"{PACKAGE}.modeling")


def _comes_from_torchvision(error: BaseException) -> bool:
    """Tell whether an import failed inside torchvision or for want of it."""
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "torchvision":
        return True
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == "torchvision":
            return True
        trace = trace.tb_next
    return False


def _forget(package: str, names: dict | set) -> None:
    for name in [name for name in names if name.split(".")[0] == package]:
        sys.modules.pop(name, None)


def _register_without_init(spec: importlib.machinery.ModuleSpec, reason: BaseException) -> None:
    """Put the package into `sys.modules` with its path and its torchvision-free names."""
    package = importlib.util.module_from_spec(spec)
    said = f"{type(reason).__name__}: {reason}".splitlines()[0]

    def missing(name: str) -> object:
        if name in _TORCHVISION_NAMES:
            raise ImportError(f"{PACKAGE}.{name} needs a torchvision that fits torch; importing it gave {said}")
        raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")

    package.__getattr__ = missing  # type: ignore[method-assign]  # a module's own, PEP 562
    sys.modules[PACKAGE] = package
    build = importlib.import_module(f"{PACKAGE}.build_sam")
    # build_sam last: as upstream, the function of this name hides the submodule
    for name in _PLAIN_NAMES:
        setattr(package, name, getattr(build, name))
