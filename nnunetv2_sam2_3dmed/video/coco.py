"""Masks as COCO's JSON with compressed run lengths, one image per frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.video.video import Video


def run_lengths() -> ModuleType:
    """Return the module ``pycocotools.mask``.

    Raises:
        UserError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            "COCO's run lengths need pycocotools: install it with `pip install 'nnunetv2-sam2-3dmed[video]'`."
        ) from error
    return mask


def write_coco(path: Path, video: Video, labels: Iterable[np.ndarray], object_ids: Sequence[int]) -> None:
    """Write masks as a COCO file that ``pycocotools.coco.COCO`` loads.

    Images have the frame's index (``frame``) and its time in seconds (``time``); annotations are the objects on it,
    whose category is the object's number.

    Args:
        path: of the file, which appears whole or not at all.
        video: the source.
        labels: (rows, columns) for each frame in order.
        object_ids: all objects.

    Raises:
        UserError: pycocotools is not installed, or the file cannot be written.
    """
    encoder = run_lengths()
    rows, columns = video.shape[1:]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, (mask, time) in enumerate(zip(labels, video.presentation_times(), strict=True)):
        images.append(
            {
                "id": index + 1,
                "file_name": f"{index:05d}",
                "height": rows,
                "width": columns,
                "frame": index,
                "time": round(float(time), 6),
            }
        )
        for object_id in object_ids:
            inside = mask == object_id
            if not inside.any():
                continue
            lengths = encoder.encode(np.asfortranarray(inside.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": object_id,
                    "segmentation": {"size": [rows, columns], "counts": lengths["counts"].decode("ascii")},
                    "area": int(encoder.area(lengths)),
                    "bbox": [float(value) for value in encoder.toBbox(lengths)],
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": f"prompted segmentation of {video.name}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": object_id, "name": f"object {object_id}"} for object_id in object_ids],
    }
    write_text(path, json.dumps(content) + "\n")
