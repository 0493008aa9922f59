"""Install a SAM 2 checkpoint into the local weights folder ($SAM2_3dMed_weights, or ~/.cache/sam2_3dmed).

    sam2_3dmed weights sam2.1_hiera_tiny        downloads the official file; run it again to go on
    sam2_3dmed weights FILE.pt                  takes a file that you have, for machines without internet
    sam2_3dmed weights checkpoint_final.pth --export FILE.pt
                                                writes what SAM2_PromptTrainer trained in SAM 2's official format

Nothing else in this package ever downloads anything. The file is checked before it is installed (the checksums
inside it, the published SHA-256 where there is one, and that its tensors are SAM 2's), and its SHA-256 is recorded
beside it. A file that you bring and that is not a published one, such as one you fine-tuned, needs --as NAME: all
trainings that start from NAME will then start from it. An exported file can be such a one, and can be loaded by SAM 2's
own code.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder, copy_file, written_beside
from nnunetv2_sam2_3dmed.locks import held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name_or_path",
        help="sam2 or sam2.1, then _hiera_ and tiny, small, base_plus or large; or MedSAM2_latest; or a file",
    )
    parser.add_argument("--as", dest="name", metavar="NAME", help="the name under which to install a file of yours")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE.pt",
        help="install nothing; write a model trained for prompts in SAM 2's official format",
    )
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is installed already")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS, recorded_sha256, weights_folder

    wanted = args.name_or_path
    if args.export is not None:
        if args.name is not None:
            raise UserError(f"--export writes a file and --as {args.name} installs one: run two commands.")
        export_file(Path(wanted), args.export, args.force)
        return
    folder = weights_folder()
    check_writable_folder(folder)
    if wanted in CHECKPOINTS and not Path(wanted).is_file():
        if args.name is not None:
            raise UserError(
                f"--as is for a file of yours, but {wanted} is downloaded under its own name: leave it out."
            )
        installed = install_published(wanted, folder, args.force)
    elif Path(wanted).is_file():
        installed = install_file(Path(wanted), folder, args.name, args.force)
    else:
        raise UserError(f"{wanted!r} is neither a file nor one of {', '.join(CHECKPOINTS)}.")
    print(f"installed {installed} ({installed.stat().st_size / 1e6:.0f} MB, SHA-256 {recorded_sha256(installed)})")


def install_published(name: str, folder: Path, force: bool) -> Path:
    """Download a known checkpoint, check it and install it.

    Raises:
        UserError: it is installed already, cannot be fetched, or is not what was published.
    """
    from nnunetv2_sam2_3dmed.download import download
    from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS, sha256_of

    target = folder / f"{name}.pt"
    _refuse_to_replace(target, force)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.pt.partial"
    with _alone(folder / f".{name}.lock", name):
        _refuse_to_replace(target, force)  # another process may just have installed it
        download(CHECKPOINTS[name].address, partial)
        try:
            sha256 = sha256_of(partial)
            if CHECKPOINTS[name].sha256 not in (None, sha256):
                raise UserError(
                    f"the file from {CHECKPOINTS[name].address} has the SHA-256 {sha256}, but "
                    f"{CHECKPOINTS[name].sha256} was published; it was thrown away: try again."
                )
            _check(partial, CHECKPOINTS[name].backbone)
        except UserError:  # a wrong file, with which going on would never help
            partial.unlink()
            raise
        return _move(partial, target, sha256)


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Prevent two downloads of one file from writing into each other."""
    with held(lock) as own:
        if own is None:
            raise UserError(f"another process is downloading {name} to {lock.parent}: wait for it.")
        yield


def install_file(path: Path, folder: Path, name: str | None, force: bool) -> Path:
    """Check a file that the user brought and install a copy of it.

    Raises:
        UserError: the file is no SAM 2 checkpoint, does not fit ``name``, or that one is installed already.
    """
    from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS, sha256_of

    if name is not None and name not in CHECKPOINTS:
        raise UserError(f"--as is {name!r}, but must be one of {', '.join(CHECKPOINTS)}.")
    known = name or (path.stem if path.stem in CHECKPOINTS else None)
    backbone = _check(path, CHECKPOINTS[known].backbone if known else None)
    sha256 = sha256_of(path)
    published = {checkpoint.sha256: published for published, checkpoint in CHECKPOINTS.items() if checkpoint.sha256}
    if name is None:
        # a file without a published SHA-256 is known by its name
        by_name = known if known and CHECKPOINTS[known].sha256 is None else None
        name = published.get(sha256, by_name)
    if name is None:
        raise UserError(
            f"{path} is a {backbone}, but not a published file (SHA-256 {sha256}): if you want trainings to start from "
            f"it in place of that one, add --as {backbone}."
        )
    target = folder / f"{name}.pt"
    _refuse_to_replace(target, force)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial.{os.getpid()}.pt"
    try:
        copy_file(path, partial)
        if sha256_of(partial) != sha256:
            raise UserError(f"{path} was copied to {folder}, but other bytes are read there: check that disk.")
        return _move(partial, target, sha256)
    finally:
        partial.unlink(missing_ok=True)


def export_file(path: Path, target: Path, force: bool) -> None:
    """Write the weights of a trained model in SAM 2's official format.

    Raises:
        UserError: the file is no model of a trainer for prompts, or ``target`` exists already.
    """
    import torch

    from nnunetv2_sam2_3dmed.interactive.trained_model import in_official_format
    from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint

    if target.suffix != ".pt":
        raise UserError(f"--export is {target}, but SAM 2's checkpoints end in .pt: name it {target.stem}.pt.")
    if target.exists() and not force:
        raise UserError(f"{target} exists already: add --force to replace it.")
    check_writable_folder(target.parent)
    weights, differences = in_official_format(load_checkpoint(path), path)
    with written_beside(target, ending=".pt", failures=(RuntimeError,)) as beside:  # torch raises those
        torch.save({"model": weights}, beside)
    print(f"wrote {target} ({target.stat().st_size / 1e6:.0f} MB)")
    for difference in differences:
        print(f"note: {difference}")


def _check(path: Path, expected: str | None) -> str:
    """Return the file's backbone after all checks."""
    from nnunetv2_sam2_3dmed.network.checkpoints import check_archive, identify_backbone, read_checkpoint

    weights = read_checkpoint(path)
    check_archive(path)
    backbone = identify_backbone(weights, path)
    if expected not in (None, backbone):
        raise UserError(f"{path} holds {backbone}, but {expected} was expected: take another file or another name.")
    return backbone


def _move(partial: Path, target: Path, sha256: str) -> Path:
    from nnunetv2_sam2_3dmed.network.checkpoints import record_sha256, sha256_file

    # an old record must never stand beside a new file; the new one is written first, for want of room shows there
    record_sha256(partial, sha256, target.name)
    try:
        sha256_file(target).unlink(missing_ok=True)
        os.replace(partial, target)
        os.replace(sha256_file(partial), sha256_file(target))
    finally:
        sha256_file(partial).unlink(missing_ok=True)
    return target


def _refuse_to_replace(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise UserError(f"{target} is installed already: add --force to replace it.")
