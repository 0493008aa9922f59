"""A phantom whose objects ``RegionEngine`` finds exactly, and where it lies on the page."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIDE = 48  # voxels of the phantom, and pixels of masks: a quarter of the size to which slices are resized
# z runs to the head, y to the left, x to the front: no axis lies as it is shown
DIRECTION = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
DARK, GREY, BRIGHT = 40, 120, 200  # intensities around the objects, of the second and of the first one
SHOWN = {DARK: 0, GREY: 128, BRIGHT: 255}  # the window is from the lowest to the highest one


def balls() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (z, y, x) and its two objects, which lie beside each other along y."""
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    first = ((z - 22) / 14) ** 2 + ((y - 15) / 10) ** 2 + ((x - 20) / 12) ** 2 < 1
    second = ((z - 26) / 12) ** 2 + ((y - 35) / 9) ** 2 + ((x - 24) / 11) ** 2 < 1
    image = np.full((SIDE,) * 3, DARK, np.int16)
    image[first], image[second] = BRIGHT, GREY
    return image, first, second


IMAGE, FIRST, SECOND = balls()


def write_image(path: Path) -> Path:
    """Write the image as a file."""
    image = sitk.GetImageFromArray(IMAGE)
    image.SetDirection(DIRECTION.reshape(-1).tolist())
    sitk.WriteImage(image, str(path))
    return path


def session_of(server):
    """The only session of a server."""
    (lease,) = server.state.leases._leases.values()
    return lease.holding.page.session


def labels_of(server) -> np.ndarray:
    return server.state.worker.run(session_of(server).labels)


def prompts_of(server) -> list[tuple[int, int, int]]:
    """Object, axis and slice of each prompt."""
    return server.state.worker.run(lambda: [(p.object_id, p.axis, p.index) for p in session_of(server).prompts])


def axial(viewer, y, x):
    """Place of a voxel on the axial plane: the front (high x) is at the top, the left (high y) at the right."""
    return viewer.at("axial", SIDE - 1 - x, y, SIDE, SIDE)


def draw_first(viewer) -> None:
    """Draw a box around the first object on the axial slice that is shown."""
    viewer.draw(axial(viewer, 3, 34), axial(viewer, 27, 6))


def drop(viewer, path):
    """Drop a file on the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    viewer.page.evaluate(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name));
            window.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [path.name, content],
    )
