"""OHIF, as MONAI Label serves it, in a headless Chromium: what a person does with mouse and keyboard."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 300.0
# no graphics card, no sound, and nowhere to go but loopback
FLAGS = "--headless=new --no-sandbox --disable-dev-shm-usage --window-size=1200,760 --use-angle=swiftshader"
FLAGS += " --enable-unsafe-swiftshader --ignore-gpu-blocklist --disable-background-networking --disable-sync"
FLAGS += " --proxy-server=http://127.0.0.1:9 --proxy-bypass-list=127.0.0.1"
# voxels of the first labelmap, rows of pixels one after the other, by the slice that they lie on
LABELMAP = """
const [found] = window.services.segmentationService.getSegmentations(), result = {};
const {cache, metaData} = window.cornerstone, uid = id => metaData.get('instance', id).SOPInstanceUID;
const size = id => { const {Rows, Columns} = metaData.get('instance', id); return [Rows, Columns]; };
const {imageIds, volumeId} = found.representationData.Labelmap;
const add = (id, values) => { result[uid(id)] = [size(id), Array.from(values)]; };
if (volumeId && cache.getVolume(volumeId)) {
    const volume = cache.getVolume(volumeId), values = volume.voxelManager.getCompleteScalarDataArray();
    const source = volume.referencedVolumeId && cache.getVolume(volume.referencedVolumeId).imageIds;
    const ids = source || volume.imageIds.map(id => cache.getImage(id).referencedImageId);
    const length = volume.dimensions[0] * volume.dimensions[1];
    ids.forEach((id, k) => add(id, values.slice(k * length, (k + 1) * length)));
} else {
    imageIds.map(id => cache.getImage(id)).forEach(image => add(image.referencedImageId, image.getPixelData()));
}
return result;"""


def missing() -> list[str]:
    """Return which of the browser's parts this machine lacks."""
    programs = {"chromium": "chromium", "chromium-driver": "chromedriver"}
    return [package for package, program in programs.items() if not shutil.which(program)]


@dataclass(frozen=True)
class Viewer:
    """A browser, the address of MONAI Label's server, and where downloads go."""

    driver: webdriver.Chrome
    server: str
    downloads: Path

    def open(self, mode: str, study: str) -> None:
        """Open a study in a mode, "monai-label" or "segmentation", as the list of studies does."""
        self.driver.get(f"{self.server}/ohif/{mode}?StudyInstanceUIDs={study}")
        self.until("document.querySelector('[data-cy=\"viewport-overlay-bottom-right\"]')?.innerText.includes('/')")
        for button in self.buttons("Confirm and Hide"):
            button.click()

    def connect(self) -> None:
        """Name the server to the panel MONAI Label, whose own guess is port 8000."""
        self.until("document.getElementById('monailabelServerURL')")
        name = "document.getElementById('monailabelServerURL')"
        self.driver.execute_script(f"{name}.value = arguments[0]; {name}.focus(); {name}.blur();", f"{self.server}/")
        time.sleep(1)  # the panel takes the address when the field is left
        self.driver.find_element(By.CSS_SELECTOR, ".settingsTable button").click()
        self.until("document.querySelector('.monaiLabelPanel .tabs')")
        time.sleep(2)  # the panel colours its segments a second later

    def run(self, model: str) -> None:
        """Let a model segment the scan that is shown, by the panel's own buttons."""
        for option in self.driver.find_elements(By.CSS_SELECTOR, ".monaiLabelPanel option"):
            if option.text == model:
                option.click()
        self.buttons("Run")[0].click()
        self.until("document.body.innerText.includes('Running Segmentation - Successful')")
        time.sleep(2)

    def load(self, title: str, segments: int) -> None:
        """Open a DICOM Segmentation of the study, by a double click on its name and Yes."""
        shown = f"//*[text()='{title}']"
        self.until(f"document.evaluate({shown!r}, document, null, 9).singleNodeValue")
        ActionChains(self.driver).double_click(self.driver.find_element(By.XPATH, shown)).perform()
        self.until("document.body.innerText.includes('Do you want to open this Segmentation?')")
        self.buttons("Yes")[0].click()
        self.until(f"document.querySelectorAll('[data-cy=\"data-row\"]').length == {segments}")
        time.sleep(2)

    def names(self) -> list[str]:
        """Return the segments of the panel Segmentation, from top to bottom."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="data-row"]')
        return [row.text.split("\n")[-1] for row in rows]

    def paint(self, segment: int) -> None:
        """Draw a stroke of a segment (from 0) on the slice that is shown, with the brush."""
        self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="data-row"]')[segment].click()
        time.sleep(2)
        self.driver.find_element(By.CSS_SELECTOR, '[data-cy="Brush"]').click()
        time.sleep(1)
        canvas = self.driver.find_element(By.CSS_SELECTOR, '[data-cy="viewport-pane"] canvas')
        stroke = ActionChains(self.driver).move_to_element_with_offset(canvas, -40, 20).click_and_hold()
        stroke.move_by_offset(40, 0).move_by_offset(20, 20).release().perform()
        time.sleep(2)

    def download(self) -> Path:
        """Download the segmentation as DICOM-SEG."""
        before = set(self.downloads.iterdir())
        choice = self.driver.find_elements(By.CSS_SELECTOR, "button[role=combobox]")[0]
        choice.find_element(By.XPATH, "./preceding::button[1]").click()
        for words in ("Export", "Download DICOM SEG"):
            time.sleep(1)
            entries = self.driver.find_elements(By.CSS_SELECTOR, "[role=menuitem]")
            entry = next(entry for entry in reversed(entries) if words in entry.text)
            entry.send_keys(Keys.ENTER)  # a click of a mouse that came from another entry was lost in Chromium 156
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            new = [path for path in self.downloads.iterdir() if path not in before and path.suffix != ".crdownload"]
            if new:
                return new[0].rename(new[0].with_name(f"{len(before)}.dcm"))
            time.sleep(0.5)
        raise TimeoutError("nothing was downloaded")

    def upload(self, file: Path) -> None:
        """Send a file to the archive, by Upload above the list of studies."""
        self.driver.get(f"{self.server}/ohif/")
        self.until("document.body.innerText.includes('Upload')")
        self.driver.find_element(By.XPATH, "//*[normalize-space(text())='Upload']").click()
        self.until("document.querySelector('input[type=file]')")
        self.driver.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(file))
        self.until("document.body.innerText.includes('1 file completed')")

    def labelmap(self) -> dict[str, np.ndarray]:
        """Return the values [rows, columns] of the first labelmap by the SOPInstanceUID of the slice."""
        found = self.driver.execute_script(LABELMAP)
        return {uid: np.reshape(values, size) for uid, (size, values) in found.items()}

    def picture(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))

    def buttons(self, text: str) -> list[WebElement]:
        return [one for one in self.driver.find_elements(By.TAG_NAME, "button") if one.text.strip() == text]

    def until(self, condition: str) -> Any:
        """Wait until a JavaScript expression holds."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = self.driver.execute_script(f"return {condition}")
            if found:
                return found
            time.sleep(0.5)
        said = self.driver.execute_script("return document.body.innerText")
        errors = [line["message"][-300:] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        raise TimeoutError(f"{condition}\n{said[-1500:]}\n{errors[-3:]}")


@contextlib.contextmanager
def open_viewer(server: str, downloads: Path) -> Iterator[Viewer]:
    """Run a browser inside the `with` block."""
    downloads.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS.split():
        options.add_argument(flag)
    wanted = {"download.default_directory": str(downloads), "download.prompt_for_download": False}  # Debian's asks
    options.add_experimental_option("prefs", wanted)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE)
    try:
        yield Viewer(driver, server, downloads)
    finally:
        driver.quit()
