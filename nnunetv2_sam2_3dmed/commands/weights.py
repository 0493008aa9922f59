"""Install a SAM 2 checkpoint into the local weights folder ($SAM2_3dMed_weights, or ~/.cache/sam2_3dmed).

    sam2_3dmed weights sam2.1_hiera_tiny        downloads the official file
    sam2_3dmed weights FILE.pt                  takes a file that you have, for machines without internet

Nothing else in this package ever downloads anything. The file is checked before it is installed; which
backbone it belongs to is read from its tensors.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name_or_path", help="sam2 or sam2.1, then _hiera_ and tiny, small, base_plus or large; or a file"
    )
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is installed already")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES
    from nnunetv2_sam2_3dmed.network.weights import identify_backbone, read_checkpoint, weights_folder

    folder = weights_folder()
    name = args.name_or_path
    if name in BACKBONES:
        installed = install(lambda partial: download(official_address(name), partial), folder, args.force, name)
    elif Path(name).is_file():
        identify_backbone(read_checkpoint(Path(name)))  # complain about the user's file, not about its copy
        installed = install(lambda partial: shutil.copyfile(name, partial), folder, args.force)
    else:
        raise UserError(f"{name!r} is neither a file nor one of {', '.join(BACKBONES)}.")
    print(f"installed {installed} ({installed.stat().st_size / 1e6:.0f} MB)")


def official_address(name: str) -> str:
    """Where the authors of SAM 2 publish the checkpoint ``name``."""
    release = "092824" if name.startswith("sam2.1") else "072824"
    return f"https://dl.fbaipublicfiles.com/segment_anything_2/{release}/{name}.pt"


def download(address: str, path: Path) -> None:
    """Downloads with a progress bar.

    Raises:
        UserError: the address cannot be reached.
    """
    from torch.hub import download_url_to_file

    try:
        download_url_to_file(address, str(path), progress=True)
    except OSError as error:
        raise UserError(
            f"{address} cannot be downloaded ({error}): on a machine without internet, bring the file and run "
            f"`sam2_3dmed weights FILE`."
        ) from error


def install(fetch, folder: Path, force: bool, expected: str | None = None) -> Path:
    """Fetches a checkpoint beside its place, checks it, and moves it there.

    Args:
        fetch: writes the file to the path that it is given.
        folder: the weights folder.
        force: replace an installed checkpoint.
        expected: the backbone that it must be, if that is known.

    Raises:
        UserError: the file is no SAM 2 checkpoint, another one than expected, or already installed.
    """
    from nnunetv2_sam2_3dmed.network.weights import identify_backbone, read_checkpoint

    if expected is not None:
        _refuse_to_replace(folder / f"{expected}.pt", force)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial.{os.getpid()}.pt"
    try:
        fetch(partial)
        backbone = identify_backbone(read_checkpoint(partial))
        if expected is not None and backbone != expected:
            raise UserError(f"the file that was fetched is {backbone}, but {expected} was asked for: try again later.")
        target = folder / f"{backbone}.pt"
        _refuse_to_replace(target, force)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _refuse_to_replace(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise UserError(f"{target} is installed already: add --force to replace it.")
