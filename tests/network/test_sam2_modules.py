import subprocess
import sys

import pytest

from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base

HYDRA_STATE = """
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
{before}
before = (GlobalHydra.instance().is_initialized(), set(Singleton._instances))
import nnunetv2_sam2_3dmed.training.variants
import sys
assert "sam2" in sys.modules
after = (GlobalHydra.instance().is_initialized(), set(Singleton._instances))
assert before[0] == after[0] == {initialized}, (before, after)
{after}
"""


@pytest.mark.parametrize(
    "before, after, initialized",
    [
        ("", "from hydra import initialize_config_module\ninitialize_config_module('hydra')", False),
        (
            "from hydra import initialize_config_module\n"
            "initialize_config_module('hydra', version_base='1.2')\nown = GlobalHydra.instance().hydra",
            "assert GlobalHydra.instance().hydra is own",
            True,
        ),
    ],
    ids=["untouched", "in use by somebody else"],
)
def test_importing_the_package_leaves_hydra_as_it_was(before, after, initialized):
    code = HYDRA_STATE.format(before=before, after=after, initialized=initialized)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_all_official_backbones_are_known():
    assert len(BACKBONES) == 8
    assert {name.split("_hiera_")[1] for name in BACKBONES} == {"tiny", "small", "base_plus", "large"}


@pytest.mark.parametrize("image_size", [0, 16, 100, -32])
def test_image_size_must_be_a_multiple_of_32(image_size):
    with pytest.raises(ValueError, match=f"image_size is {image_size}"):
        build_sam2_base("sam2.1_hiera_tiny", image_size)


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="sam3"):
        build_sam2_base("sam3", 64)


@pytest.mark.parametrize("backbone", ["sam2.1_hiera_tiny", "sam2_hiera_base_plus"])
def test_without_its_trunk_all_else_is_the_same(backbone):
    def shapes(with_trunk):
        sam2 = build_sam2_base(backbone, 64, with_trunk=with_trunk)
        return {name: p.shape for name, p in sam2.named_parameters()}

    whole, stunted = shapes(True), shapes(False)
    trunk = {name for name in whole if name.startswith("image_encoder.trunk.")}
    assert {name: stunted.get(name) for name in whole.keys() - trunk} == {n: whole[n] for n in whole.keys() - trunk}
    count = [sum(s.numel() for n, s in each.items() if n in trunk) for each in (whole, stunted)]
    assert count[1] < count[0] / 2
