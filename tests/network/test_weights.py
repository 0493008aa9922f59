"""Files in SAM 2's official format, written from sam2's own builders (real checkpoints cannot be had in tests)."""

import copy

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base
from nnunetv2_sam2_3dmed.network.weights import load_sam2_weights

TINY = "sam2.1_hiera_tiny"


@pytest.fixture(scope="module")
def official():
    """A freshly initialised SAM 2.1 tiny at its own 1024 pixels: its state dict is an official one."""
    torch.manual_seed(1)
    return build_sam2_base(TINY, 1024)


@pytest.fixture
def checkpoint(official, tmp_path):
    path = tmp_path / f"{TINY}.pt"
    torch.save({"model": official.state_dict()}, path)
    return path


def test_the_trunk_arrives_bit_for_bit(official, checkpoint, make_network):
    network = make_network()
    load_sam2_weights(network, checkpoint)
    expected = official.image_encoder.state_dict()
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_both_branches_are_filled_and_the_rest_is_reported_fresh(official, checkpoint, make_network):
    network = make_network(num_classes=3, refine_masks=2)
    fresh = copy.deepcopy(network.state_dict())
    reports = {report.component: report for report in load_sam2_weights(network, checkpoint)}
    theirs = official.state_dict()
    for branch in (network.segmentation, network.boundary):
        layer = "layers.0.linear1.weight"
        assert torch.equal(branch.memory_attention.state_dict()[layer], theirs[f"memory_attention.{layer}"])
        assert torch.equal(branch.no_memory, theirs["no_mem_embed"])
        assert torch.equal(branch.memory_age, theirs["maskmem_tpos_enc"])
        assert torch.equal(branch.candidate_tokens, theirs["sam_mask_decoder.mask_tokens.weight"][1:])
        for k in range(2):
            token = theirs["sam_mask_decoder.mask_tokens.weight"][0]
            assert torch.equal(branch.mask_decoder.mask_tokens.weight[k], token)
            hypernetwork = branch.mask_decoder.output_hypernetworks_mlps[k].layers[0].weight
            assert torch.equal(hypernetwork, theirs["sam_mask_decoder.output_hypernetworks_mlps.0.layers.0.weight"])
    assert reports["image encoder"].fresh == 0 and reports["image encoder"].adapted == 0
    for branch in ("segmentation branch", "boundary branch"):
        adapted = {name: report.adapted for name, report in reports.items() if name.startswith(branch)}
        # tokens and two hypernetworks of six tensors; the first convolution of the mask downsampler
        assert adapted.pop(f"{branch}, mask decoder") == 1 + 2 * 6
        assert adapted.pop(f"{branch}, memory encoder") == 1
        assert set(adapted.values()) == {0}
    fusion = [n for n in fresh if n.startswith("boundary.fusion.")]
    assert reports["boundary branch, fusion"].fresh == len(fusion) > 0
    refinement = [n for n in fresh if n.startswith("segmentation.refinement.")]
    assert reports["segmentation branch, refinement"].fresh == len(refinement) > 0
    assert sum(report.fresh for report in reports.values()) == len(fusion) + len(refinement)
    unchanged = [n for n in fresh if torch.equal(fresh[n], network.state_dict()[n])]
    assert set(fusion) <= set(unchanged) and any(n.startswith("srpp.") for n in unchanged)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_official_checkpoint_fills_all_that_is_sam2_s(backbone, tmp_path):
    """Eight files in the official format; what they hold arrives in the encoder and in both branches."""
    torch.save({"model": build_sam2_base(backbone, 1024).state_dict()}, tmp_path / "official.pt")
    # the large trunk is not needed twice: the boundary branch has none of its own
    network = SAM2_3dMed(1, 2, backbone=backbone, image_size=64, boundary_fusion=False)
    reports = load_sam2_weights(network, tmp_path / "official.pt")
    assert len(reports) == 1 + 2 * 4
    assert all(report.taken > 0 and report.adapted == report.fresh == 0 for report in reports)


def test_missing_tensors_are_named_and_nothing_is_changed(official, tmp_path, make_network):
    weights = {n: v for n, v in official.state_dict().items() if "memory_attention.layers.2.norm1" not in n}
    torch.save({"model": weights}, tmp_path / "incomplete.pt")
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match=r"lacks.*2 tensors \(memory_attention.layers.2.norm1.weight, .*bias\)"):
        load_sam2_weights(network, tmp_path / "incomplete.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_tensors_of_another_shape_are_named(official, tmp_path, make_network):
    weights = {**official.state_dict(), "no_mem_embed": torch.zeros(1, 1, 128)}
    torch.save({"model": weights}, tmp_path / "changed.pt")
    with pytest.raises(UserError, match=r"no_memory \(1, 1, 128\) instead of \(1, 1, 256\)"):
        load_sam2_weights(make_network(), tmp_path / "changed.pt")


def test_equal_masks_of_all_classes_encode_as_the_one_mask_did(official, checkpoint, make_network):
    network = make_network(num_classes=4)
    load_sam2_weights(network, checkpoint)
    mask = torch.randn(1, 1, 64, 64)
    one = official.memory_encoder.mask_downsampler(mask)
    three = network.segmentation.memory_encoder.mask_downsampler(mask.expand(-1, 3, -1, -1))
    torch.testing.assert_close(three, one, atol=1e-5, rtol=1e-5)


def test_fewer_memories_keep_the_age_of_the_first_slice(official, checkpoint, make_network):
    network = make_network(num_memories=3)
    load_sam2_weights(network, checkpoint)
    ages = official.maskmem_tpos_enc
    assert torch.equal(network.segmentation.memory_age, torch.cat([ages[:2], ages[6:]]))


def test_a_truncated_file_is_named(checkpoint, make_network):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"sam2.1_hiera_tiny.pt \(\d+ bytes\) is truncated"):
        load_sam2_weights(make_network(), checkpoint)


@pytest.mark.parametrize("content", [{"model": {"weight": torch.zeros(1)}}, {"state": 1}, [1, 2]], ids=str)
def test_other_files_are_not_taken(content, tmp_path, make_network):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match="is not a SAM 2 checkpoint"):
        load_sam2_weights(make_network(), path)


def test_a_file_with_code_in_it_is_not_run(tmp_path, make_network):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.pt"
    torch.save({"model": Payload()}, path)
    with pytest.raises(UserError, match="needs io.open to be unpickled, which is refused"):
        load_sam2_weights(make_network(), path)
    assert not (tmp_path / "ran").exists()


def test_an_image_encoder_alone_is_not_enough(official, tmp_path, make_network):
    encoder = {n: v for n, v in official.state_dict().items() if n.startswith("image_encoder.")}
    torch.save({"model": encoder}, tmp_path / "encoder.pt")
    with pytest.raises(UserError, match="is not a SAM 2 checkpoint"):
        load_sam2_weights(make_network(), tmp_path / "encoder.pt")


def test_sam2_0_is_not_taken_for_2_1(tmp_path, make_network):
    torch.save({"model": build_sam2_base("sam2_hiera_tiny", 64).state_dict()}, tmp_path / f"{TINY}.pt")
    with pytest.raises(UserError, match="holds sam2_hiera_tiny, but does not fit the backbone in the plan"):
        load_sam2_weights(make_network(), tmp_path / f"{TINY}.pt")


def test_another_backbone_s_file_is_refused(checkpoint, make_network):
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_sam2_weights(make_network(backbone="sam2.1_hiera_base_plus", boundary=False), checkpoint)
