"""The networks: sizes, sources, and what training needs of them."""

import sys

import pytest
import torch

from nnunetv2_sam2_3dmed.baselines.networks import mednext, swin_unetr, unetr
from nnunetv2_sam2_3dmed.errors import UserError

nets = pytest.importorskip("monai.networks.nets")


def parameters(network) -> int:
    return sum(p.numel() for p in network.parameters())


# networks, and the sizes that they need
BUILDERS = {
    "SwinUNETR": lambda c, k, patch: swin_unetr(c, k),
    "UNETR": unetr,
    "MedNeXt_S": lambda c, k, patch: mednext("S", c, k, False),
}


ODD = [(name, (5, 18, 33)) for name in BUILDERS]
ONE_STEP = [(name, (16, 7, 16)) for name in ("UNETR", "MedNeXt_S")]  # where the deepest grid would be one voxel


@pytest.mark.parametrize(("name", "patch"), ODD + ONE_STEP)
def test_any_patch_trains(name, patch):
    """Two channels in, three classes out, a batch of one, and a gradient for each parameter, as DDP wants."""
    network = BUILDERS[name](2, 3, patch)
    output = network(torch.randn(1, 2, *patch))
    assert output.shape == (1, 3, *patch)
    output.square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    # MedNeXt's layers for deep supervision have no part in its full resolution
    assert all(name.startswith("network.out_blocks.") for name in without)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_divisible_patch_gives_monai_s_own_output():
    patch = (32, 16, 16)
    x = torch.randn(1, 1, *patch)
    for built, plain in (
        (mednext("S", 1, 2, False), nets.MedNeXtS(in_channels=1, out_channels=2, kernel_size=3, deep_supervision=True)),
        (unetr(1, 2, patch), nets.UNETR(in_channels=1, out_channels=2, img_size=patch)),
    ):
        plain.load_state_dict(built.network.state_dict(), strict=False)
        with torch.no_grad():
            assert torch.equal(built.eval()(x), plain.eval()(x))


def test_parameters_are_those_of_monai_s_classes():
    assert parameters(swin_unetr(1, 3)) == parameters(nets.SwinUNETR(in_channels=1, out_channels=3, feature_size=48))
    plain = nets.UNETR(in_channels=1, out_channels=3, img_size=(48, 64, 48))
    uncalled = sum(p.numel() for name, p in plain.named_parameters() if "cross_attn" in name)
    assert parameters(unetr(1, 3, (40, 56, 40))) == parameters(plain) - uncalled
    with torch.device("meta"):  # sizes without memory
        for size in "SBML":
            plain = getattr(nets, f"MedNeXt{size}")(in_channels=1, out_channels=3, deep_supervision=True)
            assert parameters(mednext(size, 1, 3, False)) == parameters(plain)


@pytest.mark.parametrize(("size", "published"), [("S", 5.6e6), ("B", 10.5e6), ("M", 17.6e6), ("L", 61.8e6)])
def test_mednext_has_the_published_parameters(size, published):
    """The table in the README of github.com/MIC-DKFZ/MedNeXt."""
    with torch.device("meta"):
        assert parameters(mednext(size, 1, 3, True)) == pytest.approx(published, abs=0.1e6)


def test_mednext_gives_coarse_outputs_in_training_and_validation_when_switched_on():
    network, patch = mednext("S", 1, 3, True), (24, 16, 10)
    x = torch.randn(1, 1, *patch)
    expected = [(24, 16, 10), (12, 8, 5), (6, 4, 2), (3, 2, 1), (2, 1, 1)]  # rounded half to even, at least 1
    for mode in (True, False):
        outputs = network.train(mode)(x)
        assert [tuple(o.shape[2:]) for o in outputs] == expected
    sum(o.square().mean() for o in outputs).backward()
    assert all(p.grad is not None for p in network.parameters())
    network.set_deep_supervision(False)
    assert torch.equal(network(x), outputs[0])


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(UserError, match=r"monai is not installed.*nnunetv2-sam2-3dmed\[monai\]"):
        swin_unetr(1, 2)
    monkeypatch.setitem(sys.modules, "monai.networks.nets", sys)  # a module without MedNeXt, as an old MONAI's
    with pytest.raises(UserError, match=r"expected 1\.5 or newer"):
        swin_unetr(1, 2)
