import torch

from nnunetv2_sam2_3dmed.network.positions import GridEncoding
from nnunetv2_sam2_3dmed.network.sam2_modules import PositionEmbeddingSine, build_sam2_base


def test_the_table_equals_sam2s_for_every_image_of_a_batch():
    theirs = PositionEmbeddingSine(num_pos_feats=64, warmup_cache=False)
    ours = GridEncoding(num_pos_feats=64, grids=[8, 16])
    for side in (8, 16):
        features = torch.randn(3, 64, side, side)
        assert torch.equal(ours(features), theirs(features))
        half = ours(features.to(torch.bfloat16))
        assert half.dtype == torch.bfloat16 and torch.equal(half, theirs(features).to(torch.bfloat16))


def test_a_batch_takes_no_memory_of_its_own():
    ours = GridEncoding(num_pos_feats=64, grids=[8])
    encoded = ours(torch.randn(48, 64, 8, 8))
    assert encoded.untyped_storage().nbytes() == 64 * 8 * 8 * 4
    assert not ours.cache and not ours.state_dict()


def test_a_network_has_the_tables_of_its_pyramid():
    sam2 = build_sam2_base("sam2.1_hiera_tiny", 96)
    names = {name for name, _ in sam2.image_encoder.neck.position_encoding.named_buffers()}
    assert names == {"grid24", "grid12", "grid6", "grid3"}
    assert [n for n, _ in sam2.memory_encoder.position_encoding.named_buffers()] == ["grid6"]
