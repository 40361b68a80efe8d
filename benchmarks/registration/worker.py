"""Register one pair of images with one package; runs in the peers' environment, in the folder of the pair.

    PEERS_VENV/bin/python worker.py {convexAdam,ants,greedy,elastix}

Reads fixed.nii, moving.nii, label_<k>.nii of the moving image, and job.json; leaves warped_<k>.nii and report.json.
All images lie on one grid whose centre is the origin, so that our affine holds there once voxels are turned to mm.
Without an affine in job.json the package finds its own, if it has one.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEED = 1
LPS = np.diag([-1.0, -1.0, 1.0])  # from NIfTI's axes (RAS) to ITK's, and back
Label = tuple[str, str]


def convex_adam(affine: np.ndarray | None, labels: list[Label], options: dict[str, Any]) -> Callable[[], None]:
    """convexAdam with MIND features and its defaults; it has no affine: without ours the grids as they lie."""
    import nibabel
    from convexAdam.convex_adam_MIND import convex_adam_pt
    from scipy.ndimage import map_coordinates

    def run() -> None:
        fixed, moving = (nibabel.load(name) for name in ("fixed.nii", "moving.nii"))
        size = np.array(fixed.shape).reshape(3, 1, 1, 1)
        grid = np.indices(fixed.shape, dtype=float)

        def sampled(volume: np.ndarray, points: np.ndarray, mode: str) -> np.ndarray:
            if affine is not None:
                centred = points - (size - 1) / 2
                points = np.einsum("ij,jhwd->ihwd", affine[:, :3], centred) + affine[:, 3].reshape(3, 1, 1, 1)
                points = points + (size - 1) / 2
            return map_coordinates(volume, points, order=1, mode=mode).astype(np.float32)

        aligned = sampled(moving.get_fdata(), grid, "nearest")
        ddf = convex_adam_pt(img_fixed=fixed.get_fdata().astype(np.float32), img_moving=aligned, **options)
        for name, warped in labels:
            # one interpolation of the label: first the displacement, then the affine
            values = sampled(nibabel.load(name).get_fdata(), grid + ddf.transpose(3, 0, 1, 2), "constant")
            nibabel.save(nibabel.Nifti1Image(values, fixed.affine), warped)

    return run


def ants_syn(affine: np.ndarray | None, labels: list[Label], options: dict[str, Any]) -> Callable[[], None]:
    """antsRegistrationSyN: rigid and affine by mutual information, then SyN by cross correlation."""
    import ants

    ants.config.set_ants_deterministic(True, SEED)

    def run() -> None:
        fixed, moving = ants.image_read("fixed.nii"), ants.image_read("moving.nii")
        given = {"type_of_transform": "antsRegistrationSyN[s]", **options}
        if affine is not None:
            linear, shift = millimetres(affine, fixed.spacing)
            values = (LPS @ linear @ LPS, LPS @ shift)
            transform = ants.create_ants_transform(
                transform_type="AffineTransform", dimension=3, matrix=values[0], translation=values[1]
            )
            ants.write_transform(transform, "ours.mat")
            given |= {"type_of_transform": "antsRegistrationSyN[so]", "initial_transform": ["ours.mat"]}
        found = ants.registration(fixed, moving, outprefix="ants_", **given)["fwdtransforms"]
        if len(found) != 2:
            raise RuntimeError(f"found the transforms {found}; wanted a warp and an affine")
        for name, warped in labels:
            label = ants.image_read(name)
            ants.image_write(ants.apply_transforms(fixed, label, found, interpolator="linear"), warped)

    return run


def greedy(affine: np.ndarray | None, labels: list[Label], options: dict[str, Any]) -> Callable[[], None]:
    """Greedy by normalised cross correlation, radius 2, 100x50x10 iterations, as in its documentation's first steps."""
    import nibabel
    from picsl_greedy import Greedy3D

    def run() -> None:
        program, common = Greedy3D(), f"-threads 1 -seed {SEED} -V 0"
        pair = "-m NCC 2x2x2 -i fixed.nii moving.nii -n 100x50x10"
        if affine is None:
            program.execute(f"{common} -a {pair} -ia-image-centers -o affine.mat")
        else:
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = millimetres(affine, nibabel.load("fixed.nii").header.get_zooms())
            np.savetxt("affine.mat", matrix)
        program.execute(f"{common} {pair} -it affine.mat -o warp.nii.gz")
        pairs = " ".join(f"-ri LINEAR -rm {name} {warped}" for name, warped in labels)
        program.execute(f"{common} -rf fixed.nii {pairs} -r warp.nii.gz affine.mat")

    return run


def elastix(affine: np.ndarray | None, labels: list[Label], options: dict[str, Any]) -> Callable[[], None]:
    """elastix with its default parameter maps: affine, then B-splines, both by mutual information.

    The option `metric` stands for the similarity of all maps in the place of that.
    """
    import itk

    itk.ElastixRegistrationMethod, itk.TransformixFilter, itk.ParameterObject  # noqa: B018, loaded when first named
    kind = itk.Image[itk.F, 3]

    def run() -> None:
        fixed, moving = (itk.imread(name, itk.F) for name in ("fixed.nii", "moving.nii"))
        parameters = itk.ParameterObject.New()
        for name in ("affine", "bspline") if affine is None else ("bspline",):
            single = parameters.GetDefaultParameterMap(name)
            if "metric" in options:
                single["Metric"] = (options["metric"], *single["Metric"][1:])
            parameters.AddParameterMap(single)
        method = itk.ElastixRegistrationMethod[kind, kind].New(fixed, moving)
        method.SetParameterObject(parameters)
        method.SetNumberOfThreads(1)
        method.LogToConsoleOff()
        if affine is not None:
            linear, shift = millimetres(affine, fixed.GetSpacing())
            initial = itk.ParameterObject.New()
            initial.AddParameterMap(affine_map(fixed, LPS @ linear @ LPS, LPS @ shift))
            method.SetInitialTransformParameterObject(initial)
        method.UpdateLargestPossibleRegion()
        found = method.GetTransformParameterObject()
        for index in range(found.GetNumberOfParameterMaps()):
            found.SetParameter(index, "FinalBSplineInterpolationOrder", "1")
        for name, warped in labels:
            transformix = itk.TransformixFilter[kind].New(itk.imread(name, itk.F))
            transformix.SetTransformParameterObject(found)
            transformix.LogToConsoleOff()
            transformix.UpdateLargestPossibleRegion()
            itk.imwrite(transformix.GetOutput(), warped)

    return run


def affine_map(fixed: Any, linear: np.ndarray, shift: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Return elastix's parameters of an affine about the origin, on the grid of an image."""
    region = fixed.GetLargestPossibleRegion()
    given = {
        "Transform": ["AffineTransform"], "NumberOfParameters": [12], "TransformParameters": [*linear.ravel(), *shift],
        "CenterOfRotationPoint": [0, 0, 0], "InitialTransformParameterFileName": ["NoInitialTransform"],
        "HowToCombineTransforms": ["Compose"], "FixedImageDimension": [3], "MovingImageDimension": [3],
        "FixedInternalImagePixelType": ["float"], "MovingInternalImagePixelType": ["float"],
        "Size": region.GetSize(), "Index": region.GetIndex(), "Spacing": fixed.GetSpacing(),
        "Origin": fixed.GetOrigin(), "Direction": np.asarray(fixed.GetDirection()).ravel(),
        "UseDirectionCosines": ["true"],
    }  # fmt: skip
    return {name: tuple(str(value) for value in values) for name, values in given.items()}


def millimetres(affine: np.ndarray, spacing: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and the shift, mm along the grid's axes, of an affine [3, 4] of centred voxels."""
    step = np.asarray(spacing, dtype=float)
    return affine[:, :3] * step[:, None] / step[None], affine[:, 3] * step


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


PACKAGES = {"convexAdam": convex_adam, "ants": ants_syn, "greedy": greedy, "elastix": elastix}


def main() -> None:
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    affine = None if job["affine"] is None else np.array(job["affine"], dtype=float)
    labels = [(f"label_{k}.nii", f"warped_{k}.nii") for k in job["classes"]]
    run = PACKAGES[sys.argv[1]](affine, labels, job["options"])
    start = cpu_seconds()  # after the imports, which take longer than some registrations
    run()
    Path("report.json").write_text(json.dumps({"cpu_seconds": cpu_seconds() - start}), encoding="utf-8")


if __name__ == "__main__":
    main()
