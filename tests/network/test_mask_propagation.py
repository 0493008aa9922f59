"""MaskPropagation against SAM2Base's own methods, run side by side with the same weights."""

import copy

import pytest
import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.mask_propagation import MaskPropagation
from nnunetv2_sam2_3dmed.network.memory_rules import FirstAndLatest, Memory
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.network.self_sorting import SelfSorting, SliceSummary, memories_to_attend
from nnunetv2_sam2_3dmed.network.slice_encoder import SliceFeatures

SIZE, GRID, DEPTH = 64, 4, 8


@pytest.fixture(params=["sam2.1_hiera_tiny", "sam2_hiera_tiny"])
def pair(request):
    """A SAM 2 and a propagation of one class with the same weights, both in eval mode."""
    reference = build_sam2_base(request.param, SIZE).eval()
    ours = MaskPropagation(copy.deepcopy(reference), num_masks=1).eval()
    theirs = reference.sam_mask_decoder
    ours.mask_decoder.load_state_dict(
        {
            k: v
            for k, v in theirs.state_dict().items()
            if k in ours.mask_decoder.state_dict() and "mask_tokens" not in k
        },
        strict=False,
    )
    with torch.no_grad():
        ours.mask_decoder.mask_tokens.weight.copy_(theirs.mask_tokens.weight[:1])
    return reference, ours


@pytest.fixture
def features():
    channels = 256
    position = build_sam2_base("sam2.1_hiera_tiny", SIZE).image_encoder.neck.position_encoding
    stride16 = torch.randn(2, DEPTH, channels, GRID, GRID)
    return SliceFeatures(
        torch.randn(2, DEPTH, channels, 4 * GRID, 4 * GRID),
        torch.randn(2, DEPTH, channels, 2 * GRID, 2 * GRID),
        stride16,
        position(stride16[:1, 0]),
    )


def as_sequence(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).permute(2, 0, 1)


@torch.no_grad()
def test_conditioned_features_and_memories_equal_sam2(pair, features):
    reference, ours = pair
    present = torch.full((2, 1), 10.0)  # SAM 2's score for "there is an object"
    outputs = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    memories = []
    for i in range(DEPTH):
        embedding = features.stride16[:, i]
        sequence, position = as_sequence(embedding), as_sequence(features.position.expand(2, -1, -1, -1))
        expected = reference._prepare_memory_conditioned_features(
            frame_idx=i,
            is_init_cond_frame=i == 0,
            current_vision_feats=[sequence],
            current_vision_pos_embeds=[position],
            feat_sizes=[(GRID, GRID)],
            output_dict=outputs,
            num_frames=DEPTH,
        )
        conditioned = ours.condition(embedding, features.position, memories, DEPTH)
        torch.testing.assert_close(conditioned, expected, atol=1e-5, rtol=1e-5)

        masks, token = torch.randn(2, 1, 4 * GRID, 4 * GRID), torch.randn(2, 256)
        large = F.interpolate(masks, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        encoded, encoded_position = reference._encode_new_memory([sequence], [(GRID, GRID)], large, present, False)
        memory = ours.remember(embedding, masks, token)
        torch.testing.assert_close(memory.spatial, encoded, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(memory.pointer, reference.obj_ptr_proj(token), atol=1e-5, rtol=1e-5)
        memories.append(memory)
        kind = "cond_frame_outputs" if i == 0 else "non_cond_frame_outputs"
        outputs[kind][i] = {
            "maskmem_features": encoded,
            "maskmem_pos_enc": encoded_position,
            "obj_ptr": reference.obj_ptr_proj(token),
        }


@torch.no_grad()
def test_decoded_masks_equal_sam2(pair, features):
    reference, ours = pair
    stride4 = ours.mask_decoder.conv_s0(features.stride4[:, 0])
    stride8 = ours.mask_decoder.conv_s1(features.stride8[:, 0])
    # "no object" would overwrite the masks with a constant
    reference.pred_obj_scores = False
    low_res, *_ = reference._forward_sam_heads(features.stride16[:, 0], high_res_features=[stride4, stride8])
    masks = ours.decode(features.stride16[:, 0], stride4, stride8, ours.for_all_slices((GRID, GRID))).masks
    torch.testing.assert_close(masks, low_res, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_stack_of_one_is_sam2_without_memory(pair, features):
    reference, ours = pair
    one = SliceFeatures(features.stride4[:, :1], features.stride8[:, :1], features.stride16[:, :1], features.position)
    reference.pred_obj_scores = False
    sizes = [(4 * GRID, 4 * GRID), (2 * GRID, 2 * GRID), (GRID, GRID)]
    levels = [
        reference.sam_mask_decoder.conv_s0(features.stride4[:, 0]),
        reference.sam_mask_decoder.conv_s1(features.stride8[:, 0]),
        features.stride16[:, 0],
    ]
    # a mask prompt is absent and there are no points: SAM 2's multimask switch must not pick another token
    reference.multimask_output_in_sam = False
    expected = reference.track_step(
        frame_idx=0,
        is_init_cond_frame=True,
        current_vision_feats=[as_sequence(level) for level in levels],
        current_vision_pos_embeds=[None, None, as_sequence(features.position.expand(2, -1, -1, -1))],
        feat_sizes=sizes,
        point_inputs=None,
        mask_inputs=None,
        output_dict={"cond_frame_outputs": {}, "non_cond_frame_outputs": {}},
        num_frames=1,
        run_mem_encoder=False,
    )
    torch.testing.assert_close(ours(one).masks[:, 0], expected["pred_masks"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_memories, seen", [(7, 7), (3, 3), (1, 1)])
def test_a_slice_sees_the_first_and_the_latest_slices(num_memories, seen):
    """Memories whose spatial tokens hold their slice index show which of ten are attended to."""
    memories = [Memory(torch.full((1, 64, GRID, GRID), float(i)), torch.zeros(1, 256)) for i in range(10)]
    tokens, _ = FirstAndLatest().choose(memories, torch.zeros(1, 256, GRID, GRID), torch.zeros(num_memories, 1, 1, 64))
    numbers = [int(n) for n in tokens.view(-1, GRID * GRID, 64)[:, 0, 0]]
    assert numbers == [0, *range(10 - seen + 1, 10)]


def test_each_stack_gets_the_memories_that_it_chose_with_their_ages():
    directions = torch.nn.functional.normalize(torch.randn(10, 2, 256), dim=-1)
    memories = [
        Memory(
            torch.stack([torch.full((64, GRID, GRID), 100.0 * b + i) for b in range(2)]),
            torch.zeros(2, 256),
            SliceSummary(directions[i], torch.tensor([1.0, 0.6 + 0.04 * i])),
        )
        for i in range(10)
    ]
    embedding = torch.randn(2, 256, GRID, GRID)
    chosen = memories_to_attend([m.summary for m in memories if m.summary], embedding, 7)
    assert chosen.shape == (7, 2) and not torch.equal(chosen[:, 0], chosen[:, 1])
    entries = torch.arange(7.0).view(7, 1, 1, 1).expand(-1, -1, -1, 64)
    tokens, ages = SelfSorting().choose(memories, embedding, entries)
    tokens, ages = tokens.view(7, GRID * GRID, 2, 64), ages.view(7, 2, 64)
    for k in range(7):
        for b in range(2):
            i = int(chosen[k, b])
            assert (tokens[k, :, b] == 100 * b + i).all()
            # the latest of ten has age 0, the one before it 1, ..., and what lies more than six back 6
            assert (ages[k, b] == min(9 - i, 6)).all()
