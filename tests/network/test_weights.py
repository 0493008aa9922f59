"""Files in SAM 2's official format, written from sam2's own builders (real checkpoints cannot be had in tests)."""

import copy

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base
from nnunetv2_sam2_3dmed.network.weights import (
    WEIGHTS_VARIABLE,
    identify_backbone,
    installed_checkpoint,
    load_sam2_weights,
)

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
    network = make_network(num_classes=3)
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
    # tokens, two hypernetworks of six tensors, the first convolution of the mask downsampler
    assert reports["segmentation branch"].adapted == 1 + 2 * 6 + 1
    assert reports["segmentation branch"].fresh == 0
    fusion = [n for n in fresh if n.startswith("boundary.fusion.")]
    assert reports["boundary branch"].fresh == len(fusion) > 0
    unchanged = [n for n in fresh if torch.equal(fresh[n], network.state_dict()[n])]
    assert set(fusion) <= set(unchanged) and any(n.startswith("srpp.") for n in unchanged)


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


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_official_checkpoint_is_recognised(backbone):
    assert identify_backbone(build_sam2_base(backbone, 64).state_dict()) == backbone


def test_missing_weights_say_file_folder_command_and_the_way_without(monkeypatch, tmp_path):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(UserError) as error:
        installed_checkpoint(TINY)
    message = str(error.value)
    for part in (f"{TINY}.pt", str(tmp_path), f"sam2_3dmed weights {TINY}", "noPretrain"):
        assert part in message


def test_a_truncated_file_is_named(checkpoint, make_network):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"sam2.1_hiera_tiny.pt \(\d+ bytes\) cannot be read"):
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
    with pytest.raises(UserError, match="cannot be read"):
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
