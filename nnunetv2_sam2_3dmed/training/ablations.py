"""Rows of the paper's tables, and other readings of it: each differs from SAM2_3dMedTrainer in what its name says.

"w/o Pre-train" (Tables 2 and 3) is ``SAM2_3dMedTrainer_noPretrain`` in ``variants.py``.
"""

from __future__ import annotations

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


class SAM2_3dMedTrainer_noSRPP(SAM2_3dMedTrainer):
    """Without slice relative position prediction (Tables 2 and 4)."""

    architecture_changes = {"srpp": False}


class SAM2_3dMedTrainer_noBD(SAM2_3dMedTrainer):
    """Without boundary detection (Tables 2 and 5)."""

    architecture_changes = {"boundary": False}


class SAM2_FinetuneTrainer(SAM2_3dMedTrainer_noSRPP, SAM2_3dMedTrainer_noBD):
    """SAM 2 fine-tuned with the same recipe, without SRPP and BD (Table 1, "SAM2 (Fine-tuned)").

    The paper does not say which parts it trains: those that SAM2-3dMed trains, the trunk being frozen.
    """


class SAM2_3dMedTrainer_selfSorting(SAM2_3dMedTrainer):
    """The segmentation branch remembers slices by confidence, difference and likeness, inspired by MedSAM-2."""

    architecture_changes = {"self_sorting_memory": True}


class SAM2_FinetuneTrainer_selfSorting(SAM2_FinetuneTrainer, SAM2_3dMedTrainer_selfSorting):
    """A memory inspired by MedSAM-2's on the fine-tuned SAM 2: no SRPP, no BD (in place of Table 1, "MedSAM-2").

    The paper does not say how its row was prompted or trained.
    """


class SAM2_3dMedTrainer_noBDFusion(SAM2_3dMedTrainer):
    """The boundary branch decodes its own features (Table 6)."""

    architecture_changes = {"boundary_fusion": False}


class SAM2_3dMedTrainer_BDshared(SAM2_3dMedTrainer):
    """The boundary branch shares the segmentation branch's memory attention, which its loss then helps to train.

    One of three readings of section 3 (see docs/explanation/decisions.md).
    """

    architecture_changes = {"boundary_branch": "shared"}


class SAM2_3dMedTrainer_BDfused(SAM2_3dMedTrainer):
    """The boundary branch's fused features are added to those that the masks are decoded from, in prediction too.

    One of three readings of section 3 (see docs/explanation/decisions.md).
    """

    architecture_changes = {"boundary_branch": "fused"}


class SAM2_3dMedTrainer_slices3(SAM2_3dMedTrainer):
    """Stacks of 3 slices (Table 7), for the configuration ``3d_slices3``."""

    required_slices = 3


class SAM2_3dMedTrainer_slices6(SAM2_3dMedTrainer):
    """Stacks of 6 slices (Table 7), for the configuration ``3d_slices6``."""

    required_slices = 6


class SAM2_3dMedTrainer_lambda_001_03(SAM2_3dMedTrainer):
    """lambda_1 (SRPP) 0.01, lambda_2 (BD) 0.3 (Table 8)."""

    boundary_weight = 0.3


class SAM2_3dMedTrainer_lambda_001_05(SAM2_3dMedTrainer):
    """lambda_1 (SRPP) 0.01, lambda_2 (BD) 0.5 (Table 8)."""

    boundary_weight = 0.5


class SAM2_3dMedTrainer_lambda_003_01(SAM2_3dMedTrainer):
    """lambda_1 (SRPP) 0.03, lambda_2 (BD) 0.1 (Table 8)."""

    srpp_weight = 0.03


class SAM2_3dMedTrainer_lambda_005_01(SAM2_3dMedTrainer):
    """lambda_1 (SRPP) 0.05, lambda_2 (BD) 0.1 (Table 8)."""

    srpp_weight = 0.05


class SAM2_3dMedTrainer_SRPPMemory(SAM2_3dMedTrainer):
    """With a memory between SRPP's encoder and its predictor (Table 9)."""

    architecture_changes = {"srpp_memory": True}
