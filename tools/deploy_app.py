"""A MONAI Deploy application around any bundle of this repository: a DICOM series in, a DICOM Segmentation out.

    python deploy_app.py -i SERIES -o OUTPUT -m BUNDLE

BUNDLE is the folder of an unpacked bundle, or a folder that holds one. It runs where monai-deploy-app-sdk 4.0.0
is installed (tests/clients/deploy_requirements.txt) and needs nothing else of this repository; docs/deploy.md tells how
it becomes a container.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Image, IOType
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import (
    IOMapping,
    MonaiBundleInferenceOperator,
    get_bundle_config,
)
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes

RULES = '{"selections": [{"name": "scan", "conditions": {"Modality": "(?i)^(CT|MR|PT)$"}}]}'
SERIES, LONGEST = "study_selected_series_list", 64  # characters of a DICOM long string
BLANK: tuple[str, ...] = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
BLANK += ("StudyDate", "StudyTime")
REFUSED: list[str] = []  # lines of what was refused: operators run in threads, whose errors the SDK wraps


class BundleOperator(MonaiBundleInferenceOperator):
    """The SDK's operator, with the values of the label map turned to segment numbers 1, 2, ... as DICOM wants them."""

    def __init__(self, *args: Any, label_values: list[int], **options: Any) -> None:
        self.label_values = label_values
        super().__init__(*args, **options)

    def post_process(self, data: Any, *args: Any, **options: Any) -> Any:
        result = super().post_process(data, *args, **options)
        label, numbers = result["pred"], result["pred"].new_zeros(result["pred"].shape)
        for number, value in enumerate(self.label_values):
            numbers[label == value] = number
        return {**result, "pred": numbers}


class ToVolume(DICOMSeriesToVolumeOperator):
    """The SDK's operator with the bundle's reader: voxels and affine as in inference.json, or a line that says why not.

    It looks at all files of the series, since the SDK's loader drops slices at a position that it has already.
    """

    def __init__(self, *args: Any, input_folder: Path, **options: Any) -> None:
        self.input_folder = input_folder
        super().__init__(*args, **options)

    def prepare_series(self, series: DICOMSeries) -> None:
        reader = importlib.import_module("scripts.common.volumes.dicom.series")  # of the bundle, by sys.path
        try:
            found = reader.find_series(files_of(self.input_folder, series.get_series_instance_uid()))
            volume = reader.read_frames(found)
        except reader.Unreadable as error:
            REFUSED.append(f"error: {self.input_folder}: {error}")
            raise
        files, series.slices = found.sources()
        instances = {Path(item.get_native_sop_instance().filename): item for item in series.get_sop_instances()}
        series._sop_instances = [instances[path] for path in files]
        series.voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0))  # [slices, rows, columns]
        spacing = np.linalg.norm(volume.affine[:3, :3], axis=0).tolist()
        series.col_pixel_spacing, series.row_pixel_spacing, series.depth_pixel_spacing = spacing
        setattr(series, self.ATTRIBUTE_NIFTI_AFFINE, volume.affine)
        setattr(series, self.ATTRIBUTE_DICOM_AFFINE, np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)

    def generate_voxel_data(self, series: DICOMSeries) -> np.ndarray:
        return series.voxels


class Writer(DICOMSegmentationWriterOperator):
    """The SDK's writer, for series that lack what the standard lets be empty, as anonymised ones do, or are uneven."""

    def create_dicom_seg(self, image: np.ndarray, dicom_series: DICOMSeries, output_dir: Path) -> None:
        for instance in dicom_series.get_sop_instances():
            header = instance.get_native_sop_instance()
            for name in BLANK:
                header.setdefault(name, "")
            if not header.get("SliceThickness"):
                header.SliceThickness = round(dicom_series.depth_pixel_spacing, 6)
        super().create_dicom_seg(image[dicom_series.slices], dicom_series, output_dir)


class BundleApplication(Application):
    """Load a series, segment it by the bundle, write the segmentation."""

    def compose(self) -> None:
        context: AppContext = Application.init_app_context(self.argv)
        bundle = find_bundle(Path(context.model_path))
        sys.path.insert(0, str(bundle))  # its code, and by that its model's grid
        context.models = None  # the SDK makes of a folder a model that can't predict; its operator opens the folder
        config = get_bundle_config(str(bundle), "inference")
        values = [int(value) for value in config.get_parsed_content("grid").label_values]
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=RULES, name="selector")
        to_volume = ToVolume(self, input_folder=Path(context.input_path), name="to_volume")
        infer = BundleOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=bundle,
            label_values=values,
            name="infer",
        )
        writer = Writer(
            self,
            segment_descriptions=describe(config.get("_meta_"), values),
            output_folder=Path(context.output_path),
            name="writer",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, to_volume, {(SERIES, SERIES)})
        self.add_flow(to_volume, infer, {("image", "image")})
        self.add_flow(selector, writer, {(SERIES, SERIES)})
        self.add_flow(infer, writer, {("pred", "seg_image")})


def files_of(folder: Path, series: str) -> list[Path]:
    """Return the DICOM files of a series in a folder, at any depth."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and dcmread(path, stop_before_pixels=True).get("SeriesInstanceUID") == series:
                found.append(path)
        except InvalidDicomError:
            continue
    return found


def find_bundle(path: Path) -> Path:
    """Return the bundle at `path`, or the only one in it: a container holds it in a folder of its name."""
    found = [folder for folder in (path, *sorted(path.glob("*"))) if (folder / "configs" / "inference.json").is_file()]
    if not found:
        sys.exit(f"error: {path}: found no configs/inference.json; wanted the folder of an unpacked bundle (-m)")
    if len(found) > 1 and found[0] != path:
        sys.exit(f"error: {path}: holds {len(found)} bundles; wanted the folder of one (-m)")
    return found[0].resolve()


def describe(metadata: dict[str, Any], values: list[int]) -> list[SegmentDescription]:
    """Return a description of each segment, named as the metadata names the channels where it has as many."""
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    fits = set(names) == {str(channel) for channel in range(len(values))}
    return [
        SegmentDescription(
            segment_label=names[str(channel)][:LONGEST] if fits else f"label {value}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_name=metadata["name"][:LONGEST],
            algorithm_family=codes.DCM.ArtificialIntelligence,
            algorithm_version=metadata["version"],
        )
        for channel, value in enumerate(values)
        if channel > 0
    ]


if __name__ == "__main__":
    try:
        BundleApplication().run()
    except Exception:
        if not REFUSED:
            raise
        sys.exit(REFUSED[0])
