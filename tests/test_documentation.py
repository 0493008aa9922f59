"""Links, commands, quoted messages and figures of README and documentation, checked against the code."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import nnunetv2_sam2_3dmed
from nnunetv2_sam2_3dmed.commands.main import COMMANDS, build_parser, main
from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2
from tests.interactive.reference import random_weights
from tests.nnunet.test_preprocessed_labels import write_case
from tests.plans.test_planner import make_plans

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import catalogue  # noqa: E402

SITE = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE]
WITH_LINKS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
# (comment), fence, language, text
FENCE = re.compile(r"(?:<!-- (run|file: \S+) -->\n)?^( *)```(\w*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
SIZE = 64  # pixels at which the commands on the pages are run, instead of 512


class Block(NamedTuple):
    """A fenced block: the comment before it, its language and its text."""

    comment: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(comment, kind, text) for comment, _, kind, text in FENCE.findall(page.read_text())]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of each shell command, without comments; ``$( )``, ``&&`` and launchers are taken apart."""
    for block in blocks(page):
        if block.language == "bash":
            for line in block.text.replace("\\\n", " ").replace('"$(', "").replace(')"', "").splitlines():
                for command in line.split(" && "):
                    words = shlex.split(command, comments=True)
                    start = next(
                        (i for i, w in enumerate(words) if w == "sam2_3dmed" or w.startswith("nnUNetv2_")), None
                    )
                    if start is not None:
                        yield words[start:]


def named(pages: list[Path]) -> list:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", named(WITH_LINKS))
def test_links_lead_somewhere(page):
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


def test_every_page_is_in_a_toctree():
    listed = set(re.findall(r"^([\w/-]+)$", "\n".join(b.text for b in blocks(ROOT / "docs/index.md")), re.MULTILINE))
    index = (ROOT / "docs/index.md").read_text()
    listed |= set(re.findall(r"^((?:how-to|reference|explanation)/[\w-]+|[a-z]+)$", index, re.MULTILINE))
    assert {str(p.relative_to(ROOT / "docs").with_suffix("")) for p in SITE} - {"index"} <= listed


@pytest.mark.parametrize("page", named(PAGES))
def test_our_commands_parse(page, capsys):
    for words in command_lines(page):
        if words[0] == "sam2_3dmed":
            if words[1] == "hello":  # the example of CONTRIBUTING.md
                continue
            try:
                build_parser(words[1:]).parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", named(PAGES))
def test_options_named_in_prose_exist(page):
    parsers = catalogue.command_parsers()
    for code in re.findall(r"`(sam2_3dmed [^`\n]+)`", FENCE.sub("", page.read_text())):
        words = code.split()
        command = " ".join(words[1:3]) if " ".join(words[1:3]) in parsers else words[1]
        assert command in parsers or command in ("COMMAND", "NAME", "hello"), code
        if command in parsers:
            options = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
            known = {option for action in parsers[command]._actions for option in action.option_strings}
            assert options <= known, code


def test_nnunets_commands_parse(monkeypatch, capsys):
    class Parsed(Exception):
        """Raised once a command line is parsed, so that nothing runs."""

    def parse(self, args=None, namespace=None):
        original(self, sys.argv[1:])
        raise Parsed

    original = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    scripts = {script.name: script for script in importlib.metadata.entry_points(group="console_scripts")}
    lines = [words for page in PAGES for words in command_lines(page) if words[0].startswith("nnUNetv2_")]
    assert len(lines) > 10
    for words in lines:
        monkeypatch.setattr(sys, "argv", words)
        try:
            scripts[words[0]].load()()
        except Parsed:
            continue
        except SystemExit:
            pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")


# ---------------------------------------------------------------- messages


def strings_in(folder: Path) -> list[str]:
    """All strings of the code, with a gap for each value of an f-string."""
    found = []
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values))
    return found


def test_quoted_messages_are_those_of_the_code():
    import nnunetv2.utilities

    quotes = re.findall(r"^### (.+)$", (ROOT / "docs/faq.md").read_text(), re.MULTILINE)
    assert len(quotes) >= 15
    strings = [*strings_in(ROOT / "nnunetv2_sam2_3dmed"), *strings_in(Path(nnunetv2.utilities.__path__[0]))]
    missing = []
    for quote in quotes:
        # nothing but a value may stand where the quotation has dots
        pattern = re.compile("\0+".join(re.escape(part) for part in quote.strip(" .").split("...")))
        if not any(pattern.search(string) for string in strings):
            missing.append(quote)
    assert missing == []


# ---------------------------------------------------------------- figures


def test_every_result_is_listed_beside_its_script():
    listing = (ROOT / "benchmarks/README.md").read_text()
    results = {file.name for file in (ROOT / "benchmarks/results").iterdir()}
    code = set(re.findall(r"`([\w./-]+\.(?:py|md|json|csv|png))`", listing))
    assert results <= code
    for name in code:
        folder = ROOT / "benchmarks" if name.endswith(".py") else ROOT
        assert name in results or (folder / name).is_file(), name


# ---------------------------------------------------------------- trainers


@pytest.mark.parametrize("page", named(PAGES))
def test_trainers_that_a_page_names_are_there(page):
    # what result files were made with, and is gone
    former = {
        "SAM2_3dMedTrainer_fromScratch",
        "SAM2_PromptTrainer_noPretrain",
        "SAM2_3dMedTrainer_noPretrain_45minutes",
    }
    found = set(re.findall(r"\b(SAM2_\w*Trainer\w*|nnUNetTrainer_\w+)", page.read_text()))
    found = {catalogue.BY_RULE.sub("", name.split("__")[0]) for name in found - former}
    example = {"SAM2_3dMedTrainer_highRate", "nnUNetTrainer_SegResNet"} if page.name == "CONTRIBUTING.md" else set()
    assert found - example <= {*catalogue.trainer_classes(), "nnUNetTrainer"}


def test_generated_tables_have_every_trainer_and_command():
    names = set(catalogue.trainer_classes())
    shown = "".join(catalogue.PARTS[part]() for part in catalogue.PARTS if part.endswith("trainers"))
    assert {name for name in names if re.search(rf"\b{name}\b", shown)} == names
    headings = re.findall(r"^###? (.+)$", catalogue.commands(), re.MULTILINE)
    assert [name for name in headings if " " not in name] == list(COMMANDS)
    assert "| `--batch-size" in catalogue.commands()


# ---------------------------------------------------------------- blocks that are run

METHODS = ("nnUNetTrainer__nnUNetPlans__3d_fullres", "SAM2_3dMedTrainer__nnUNetPlans__3d")
CASES = [f"spleen_{subject}{scan}" for subject in range(1, 6) for scan in range(2)]
DATASET_JSON = {
    "labels": {"background": 0, "spleen": 1},
    "channel_names": {"0": "CT"},
    "numTraining": len(CASES),
    "file_ending": ".nii.gz",
}


def write(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Iterator[Path]:
    """Folders as the pages expect them: a tiny dataset 9 with two validated models, weights, images and tables."""
    here = tmp_path_factory.mktemp("documentation")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small cost more to share out than to compute
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("raw", "preprocessed", "results"):
            (here / f"nnUNet_{variable}" / "Dataset009_Spleen").mkdir(parents=True)
            patch.setenv(f"nnUNet_{variable}", str(here / f"nnUNet_{variable}"))
        patch.setenv("nnUNet_extTrainer", "")
        patch.setenv("SAM2_3dMed_weights", str(here / "weights"))
        patch.chdir(here)
        raw, preprocessed = (here / f"nnUNet_{v}" / "Dataset009_Spleen" for v in ("raw", "preprocessed"))
        for folder in (raw, preprocessed):
            (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
        (preprocessed / "nnUNetPlans.json").write_text(json.dumps(make_plans()))
        for number, case in enumerate(CASES):
            mask = np.zeros((4, 12, 12), np.uint8)
            mask[1:3, 2:8, 2 : 7 + number % 3] = 1
            write(raw / "imagesTr" / f"{case}_0000.nii.gz", mask.astype(np.float32))
            write_case(preprocessed / "nnUNetPlans_3d_fullres", case, [1])
            places = [raw / "labelsTr", preprocessed / "gt_segmentations", here / "labelsTs"]
            places += [here / "predictions" / name for name in ("ours", "theirs")]
            if case in CASES[:2]:
                results = here / "nnUNet_results" / "Dataset009_Spleen"
                places += [results / method / "fold_0" / "validation" for method in METHODS]
            for place in places:
                write(place / f"{case}.nii.gz", mask)
        for summary in (here / "nnUNet_results").rglob("validation"):
            (summary / "summary.json").write_text('{"metric_per_case": []}')

        (here / "weights").mkdir()
        torch.save({"model": random_weights()}, here / "weights" / f"{MEDSAM2}.pt")
        volume = np.random.default_rng(0).integers(-100, 200, (16, 256, 320)).astype(np.int16)
        volume[8:, 120:180, 200:290] += 200
        for name in ("ct", "case_1_0000", "case_2_0000"):
            write(here / f"{name}.nii.gz", volume)
        write(here / "prediction.nii.gz", (volume > 200).astype(np.uint8))
        for page in PAGES:
            for block in blocks(page):
                if block.comment.startswith("file: "):
                    (here / block.comment.removeprefix("file: ")).write_text(block.text)
        assert main(["plan", "-d", "9"]) == 0  # each page can be run by itself
        yield here
    torch.set_num_threads(threads)


def run_line(line: str, patch: pytest.MonkeyPatch, capsys) -> None:
    """Run a command line in this process, at a small size and without worker processes."""
    wrapped = re.fullmatch(r'eval "\$\((.+)\)"', line)
    words = shlex.split(wrapped[1] if wrapped else line, comments=True)
    assert words[0] == "sam2_3dmed"
    if words[1] == "segment" or words[1:3] in (["annotate", "outline"], ["annotate", "rank"]):
        words += ["--image-size", str(SIZE), "-device", "cpu", "--precision", "float32"]
    elif words[1] in ("compare", "report"):
        words += ["--processes", "1"]
    elif words[1] == "experiment":
        words += ["--devices", "cpu"]
    capsys.readouterr()
    assert main(words[1:]) == 0, capsys.readouterr().err
    if wrapped:
        for name, value in re.findall(r"^export (\w+)=(.+)$", capsys.readouterr().out, re.MULTILINE):
            patch.setenv(name, value.strip("'"))


def runnable() -> list[Path]:
    """Pages with blocks to run, in the order in which a reader comes to them."""
    order = ("start", "train", "compare", "report", "experiments", "prompts", "annotate")
    pages = [page for page in PAGES if any(block.comment == "run" for block in blocks(page))]
    assert {page.stem for page in pages} == set(order)
    return sorted(pages, key=lambda page: order.index(page.stem))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", named(runnable()))
def test_blocks_run(page, workplace, monkeypatch, capsys):
    for block in blocks(page):
        if block.comment == "run" and block.language == "bash":
            for line in block.text.splitlines():
                run_line(line, monkeypatch, capsys)
        elif block.comment == "run":
            code = block.text.replace(
                'Session("MedSAM2_latest")', f'Session("MedSAM2_latest", "cpu", image_size={SIZE})'
            )
            assert code != block.text
            exec(compile(code, page.name, "exec"), {})
    outputs = {
        "start": "nnUNet_results/Dataset009_Spleen/comparison_fold_0/comparison.md",
        "train": "nnUNet_preprocessed/Dataset009_Spleen/splits_final.json",
        "compare": "comparison/per_case.csv",
        "report": "nnUNet_results/Dataset009_Spleen/comparison_fold_0/report.html",
        "experiments": "table1.yaml",
        "prompts": "masks/case_2_0000.nii.gz",
        "annotate": "nnUNet_raw/Dataset009_Spleen/labelsTr/case_1.nii.gz",
    }
    assert (workplace / outputs[page.stem]).is_file()


# ---------------------------------------------------------------- the package's top


def test_public_names():
    for name in nnunetv2_sam2_3dmed.__all__:
        assert getattr(nnunetv2_sam2_3dmed, name) and name in dir(nnunetv2_sam2_3dmed)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = nnunetv2_sam2_3dmed.nothing
    assert nnunetv2_sam2_3dmed.__version__ == importlib.metadata.version("nnunetv2-sam2-3dmed")
    code = "import sys, nnunetv2_sam2_3dmed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
