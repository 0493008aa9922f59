"""Parameters of the baselines and of SAM2-3dMed on MSD hippocampus, as nnU-Net builds them from the plans.

    eval "$(sam2_3dmed env)"     # with dataset 4 planned by nnU-Net, by nnUNetPlannerResEncM, and by `sam2_3dmed plan`
    python benchmarks/parameters.py

Writes benchmarks/results/parameters.json, from which docs/reference/trainers.md takes the numbers of the baselines.
"""

from __future__ import annotations

import json

from equal_time import DATASET, RESULTS
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.folders import load_dataset_json, read_plans

MODELS = [
    ("SAM2_3dMedTrainer", "nnUNetPlans", "3d"),
    ("nnUNetTrainer", "nnUNetPlans", "3d_fullres"),
    ("nnUNetTrainer", "nnUNetResEncUNetMPlans", "3d_fullres"),
    *((f"nnUNetTrainer_MedNeXt_{size}", "nnUNetPlans", "3d_fullres") for size in "SBML"),
    ("nnUNetTrainer_SwinUNETR", "nnUNetPlans", "3d_fullres"),
    ("nnUNetTrainer_UNETR", "nnUNetPlans", "3d_fullres"),
    *((f"nnUNet_Primus_{size}_Trainer", "nnUNetPlans", "3d_fullres") for size in "SBML"),
]


def count(trainer: str, plans_name: str, configuration_name: str) -> dict[str, int]:
    """All parameters of a network, and those that train."""
    dataset_json = load_dataset_json(DATASET)
    plans = PlansManager(read_plans(DATASET, plans_name)[1])
    configuration = plans.get_configuration(configuration_name)
    network = recursive_find_trainer_class_by_name(trainer).build_network_architecture(
        plans,
        configuration,
        determine_num_input_channels(plans, configuration, dataset_json),
        plans.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return {"all": sum(n for n, _ in sizes), "trained": sum(n for n, trains in sizes if trains)}


def main() -> None:
    counted = {"__".join(model): count(*model) for model in MODELS}
    write_text(RESULTS / "parameters.json", json.dumps(counted, indent=1) + "\n")


if __name__ == "__main__":
    main()
