"""Trainers that nnU-Net finds through ``nnUNet_extTrainer``; their code is in the package, in the modules named here.

Each of them, each of nnU-Net's and each of a user's can be had with a length and a seed: ``TRAINER_8minutes``,
``TRAINER_20epochs``, ``TRAINER_seed1``, ``TRAINER_8minutes_seed1`` (:mod:`nnunetv2_sam2_3dmed.training.names`).
"""

from importlib import import_module

from nnunetv2_sam2_3dmed.training import names

TRAINERS = {
    # SAM2-3dMed
    "training.trainer": ["SAM2_3dMedTrainer"],
    # the paper's ablations
    "training.ablations": [
        *("SAM2_3dMedTrainer_noSRPP", "SAM2_3dMedTrainer_noBD", "SAM2_3dMedTrainer_noBDFusion"),
        *("SAM2_3dMedTrainer_BDfused", "SAM2_3dMedTrainer_BDshared", "SAM2_3dMedTrainer_SRPPMemory"),
        *("SAM2_3dMedTrainer_lambda_001_03", "SAM2_3dMedTrainer_lambda_001_05"),
        *("SAM2_3dMedTrainer_lambda_003_01", "SAM2_3dMedTrainer_lambda_005_01"),
        *("SAM2_3dMedTrainer_slices3", "SAM2_3dMedTrainer_slices6", "SAM2_3dMedTrainer_selfSorting"),
        *("SAM2_FinetuneTrainer", "SAM2_FinetuneTrainer_selfSorting"),
    ],
    # other ways to train it
    "training.variants": [
        *("SAM2_3dMedTrainer_noPretrain", "SAM2_3dMedTrainer_noPretrain_tuned", "SAM2_3dMedTrainer_MedSAM2"),
        *("SAM2_3dMedTrainer_trainTrunk", "SAM2_3dMedTrainer_MedSAM2Rates", "SAM2_3dMedTrainer_LoRA"),
        *("SAM2_3dMedTrainer_lowMemory", "SAM2_3dMedTrainer_bidirectional", "SAM2_3dMedTrainer_DiceBCE"),
        *("SAM2_3dMedTrainer_SRPPmm", "SAM2_3dMedTrainer_casesPerEpoch", "SAM2_3dMedTrainer_innerSplit"),
    ],
    # models that take prompts
    "prompt_training.trainer": ["SAM2_PromptTrainer"],
    "prompt_training.variants": [
        *("SAM2_PromptTrainer_noPretrain_tuned", "SAM2_PromptTrainer_batch8", "SAM2_PromptTrainer_corrected"),
        *("SAM2_PromptTrainer_noPretrain_tuned_corrected", "SAM2_PromptTrainer_finetune_tuned"),
    ],
    "prompt_training.finetuning": ["SAM2_PromptTrainer_finetune"],
    # networks of other papers; they need the extra `monai`
    "baselines.trainers": [
        *("nnUNetTrainer_MedNeXt_S", "nnUNetTrainer_MedNeXt_B", "nnUNetTrainer_MedNeXt_M", "nnUNetTrainer_MedNeXt_L"),
        *("nnUNetTrainer_SwinUNETR", "nnUNetTrainer_UNETR"),
    ],
}
__all__ = [name for trainers in TRAINERS.values() for name in trainers]


def __getattr__(name: str) -> type:
    for module, trainers in TRAINERS.items():
        if name in trainers:
            return getattr(import_module(f"nnunetv2_sam2_3dmed.{module}"), name)
    return getattr(names, name)
