"""Validation of plans that were not written by nnU-Net, or were damaged since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.folders import PLAN_AGAIN


def check_plans(plans: dict[str, Any], dataset_json: Mapping[str, Any], parent: str) -> None:
    """Refuse plans with a damaged label manager or parent configuration.

    Args:
        plans: content of nnUNetPlans.json, see :func:`~nnunetv2_sam2_3dmed.nnunet.folders.read_plans`.
        dataset_json: dataset.json with checked labels.
        parent: the configuration that ours inherit from; it may be missing.

    Raises:
        UserError: a value is missing or of another kind.
    """
    name = f"{plans['plans_name']} of {plans['dataset_name']}"
    try:
        PlansManager(plans).get_label_manager(dict(dataset_json))
    except Exception as error:  # nnU-Net searches a class of this name
        raise UserError(
            f"the label manager {plans.get('label_manager')!r} in {name} cannot be used ({error}): {PLAN_AGAIN}."
        ) from error
    if parent not in plans["configurations"]:
        return
    try:
        configuration = PlansManager(plans).get_configuration(parent)
        values = {
            "median_image_size_in_voxels": configuration.median_image_size_in_voxels,
            "normalization_schemes": configuration.normalization_schemes,
            "data_identifier": configuration.data_identifier,
        }
    except Exception as error:  # values are missing, or inherited from a missing configuration or from itself
        raise UserError(
            f"the configuration {parent!r} in {name} is damaged ({type(error).__name__}: {error}): {PLAN_AGAIN}."
        ) from error
    size, schemes, identifier = values.values()
    sound = {
        "median_image_size_in_voxels": isinstance(size, (list, tuple))
        and len(size) == 3
        and all(map(_is_length, size)),
        "normalization_schemes": isinstance(schemes, list) and all(isinstance(scheme, str) for scheme in schemes),
        "data_identifier": isinstance(identifier, str) and bool(identifier),
    }
    for key, is_sound in sound.items():
        if not is_sound:
            raise UserError(f"{key!r} of the configuration {parent!r} in {name} is {values[key]!r}: {PLAN_AGAIN}.")


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0
