"""Finding trainers as nnU-Net does, and the generated ones that start from a seed."""

from __future__ import annotations

import ast
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from pprint import pformat
from tempfile import TemporaryDirectory

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path


def find_trainer(name: str, folders: str) -> type:
    """The trainer that nnU-Net finds by its name.

    Args:
        name: of the class.
        folders: the value of ``nnUNet_extTrainer``.

    Raises:
        UserError: there is none, or a module on the way to it cannot be imported.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with _variable(EXT_TRAINER, folders), redirect_stdout(io.StringIO()):  # it says where it looks
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        if not str(error).startswith("Could not find requested nnunet trainer"):
            raise
        raise UserError(
            f"the trainer is {name!r}, expected one that nnU-Net finds in itself or in {EXT_TRAINER} ({folders}): "
            "correct the name or add the trainer's folder to that variable."
        ) from None
    except (AssertionError, ImportError, SyntaxError) as error:
        raise UserError(
            f"the trainer {name!r} cannot be used ({type(error).__name__}: {error}): mend the module that it is in, or "
            "the one in the same folder that nnU-Net imports on the way."
        ) from error


def write_seeded_trainers(folder: Path, benchmark: str, trainers: Sequence[str], seeds: Sequence[int]) -> None:
    """Writes the module in which nnU-Net finds ``TRAINER_seedN`` for all ``trainers`` and ``seeds``.

    Names that are in it already stay: models that were trained by them and jobs in a queue need them.

    Args:
        folder: holds nothing else, and goes last on ``nnUNet_extTrainer``.
        benchmark: the benchmark's name: nnU-Net imports modules by their top-level names, which must differ.
        trainers: names of classes.
        seeds: of each of them.

    Raises:
        UserError: there is a module that somebody has changed.
    """
    names = {f"{trainer}_seed{seed}": (trainer, seed) for trainer in dict.fromkeys(trainers) for seed in seeds}
    module = "seeded_" + "".join(c if c.isalnum() else "_" for c in benchmark)
    file = folder / f"{module}.py"
    names = {**_written_names(file), **names}
    write_text(
        file,
        f'"""The trainers of the benchmark {benchmark}, each with a seed; written by `sam2_3dmed experiment`."""\n\n'
        "from nnunetv2_sam2_3dmed.training.seeding import seeded_trainers\n\n"
        f"__getattr__ = seeded_trainers(__name__, {pformat(names, width=100)})\n",
    )


def _written_names(file: Path) -> dict[str, tuple[str, int]]:
    """The names in a module that :func:`write_seeded_trainers` wrote, without running it."""
    if not file.is_file():
        return {}
    try:
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        (call,) = calls
        return dict(ast.literal_eval(call.args[1]))
    except (SyntaxError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{file} cannot be read ({error}), expected it as `sam2_3dmed experiment` wrote it: remove it; the next "
            "call writes it anew."
        ) from None


def check_seeded_names(trainers: Sequence[str], seeds: Sequence[int]) -> None:
    """Refuses a seed whose trainer's name already belongs to another class, which nnU-Net would find first.

    Raises:
        UserError: there is such a class.
    """
    with TemporaryDirectory() as folder:
        write_seeded_trainers(Path(folder), "check", trainers, seeds)
        _check_seeded_names(trainers, seeds, search_path(Path(folder)))


def _check_seeded_names(trainers: Sequence[str], seeds: Sequence[int], folders: str) -> None:
    from nnunetv2_sam2_3dmed.training.seeding import Seeded

    for trainer in dict.fromkeys(trainers):
        for seed in seeds:
            found = find_trainer(f"{trainer}_seed{seed}", folders)
            if not (issubclass(found, Seeded) and found.seed == seed):
                raise UserError(
                    f"there is a trainer {found.__name__} already (in {found.__module__}), expected the name to be "
                    "free for the one with the seed: rename it or leave seeds out."
                )


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
