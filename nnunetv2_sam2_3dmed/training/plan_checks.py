"""Plans that nnU-Net did not write, or that somebody has damaged since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError

AGAIN = "let `nnUNetv2_plan_and_preprocess` write it again"


def check_plans(plans: Any, dataset_json: Mapping[str, Any], parent: str) -> None:
    """Refuse plans that lack what is read of them.

    Args:
        plans: the content of nnUNetPlans.json.
        dataset_json: with labels that are checked.
        parent: the configuration that ours inherit from; whether there is one is not asked here.

    Raises:
        UserError: a value is missing or of another kind.
    """
    if not isinstance(plans, dict):
        raise UserError(f"the plans are {plans!r}, expected a file of nnU-Net's such as nnUNetPlans.json: {AGAIN}.")
    for key, kind in (("dataset_name", str), ("plans_name", str), ("configurations", dict)):
        if not isinstance(plans.get(key), kind) or not plans[key]:
            raise UserError(f"{key!r} is {plans.get(key)!r} in the plans, expected a filled {kind.__name__}: {AGAIN}.")
    name = f"{plans['plans_name']} of {plans['dataset_name']}"
    try:
        PlansManager(plans).get_label_manager(dict(dataset_json))
    except Exception as error:  # nnU-Net looks for a class by the name that is there
        raise UserError(
            f"the label manager {plans.get('label_manager')!r} in {name} cannot be used ({error}): {AGAIN}."
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
    except Exception as error:  # what is missing, or inherited from what does not exist or from itself
        raise UserError(
            f"the configuration {parent!r} in {name} is damaged ({type(error).__name__}: {error}): {AGAIN}."
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
            raise UserError(f"{key!r} of the configuration {parent!r} in {name} is {values[key]!r}: {AGAIN}.")


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0
