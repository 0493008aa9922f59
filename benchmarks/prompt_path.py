"""Number of calls, files and changes of file between a mask prompt and the propagated mask.

    python -m benchmarks.prompt_path --name after --output benchmarks/results/prompt_path.json

Counts the calls of this package's Python functions during ``add_mask``, ``propagate`` and ``mask`` on a phantom of
seven slices, and those of ``sam2_video_predictor.py`` during the same steps of ``SAM2VideoPredictor``. Weights are
random and slices 64 pixels wide, which changes no count. A change of file is a call whose function lies in another
file than that of the call before. Comprehensions and generator expressions are no calls, and modules of the network
that SAM 2's own code calls (rotary.py, positions.py) are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch

import nnunetv2_sam2_3dmed
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from tests.interactive.reference import Reference, build, phantom, random_weights

PACKAGE = str(Path(nnunetv2_sam2_3dmed.__file__).parent)
CALLED_BY_SAM2 = ("network/rotary.py", "network/positions.py")
COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>")
MIDDLE = 3


class CallCounter:
    """Count of calls of functions whose file's name contains ``part``."""

    def __init__(self, part: str):
        self.part = part
        self.files: list[str] = []
        self.functions: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name in COMPREHENSIONS or code.co_filename.endswith(CALLED_BY_SAM2):
            return
        if self.part in code.co_filename:
            self.files.append(code.co_filename)
            self.functions[f"{Path(code.co_filename).name}: {code.co_qualname}"] += 1

    def count(self, steps: Callable[[], object]) -> dict[str, int]:
        """The numbers of calls, files and changes of file during ``steps``."""
        sys.setprofile(self)
        try:
            steps()
        finally:
            sys.setprofile(None)
        changes = sum(one != other for one, other in zip(self.files, self.files[1:]))
        return {"calls": len(self.files), "files": len(set(self.files)), "changes_of_file": changes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to add the counts to; default: print only")
    parser.add_argument("--name", default="after", help="of these counts in the file (default: %(default)s)")
    parser.add_argument("--functions", action="store_true", help="print the calls of each function")
    args = parser.parse_args()
    weights = random_weights()
    image, mask = phantom(), phantom()[MIDDLE] > 700

    session = InteractiveSession(build(weights), device="cpu", precision="float32")
    session.set_image(image, (3.0, 1.0, 1.0))

    def ours() -> None:
        session.add_mask(mask, MIDDLE)
        session.propagate()
        session.mask()

    counter = CallCounter(PACKAGE)
    results = {"session": counter.count(ours)}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        reference = Reference(weights, Path(folder))
        state = reference.start(session)

        def theirs() -> None:
            reference.predictor.add_new_mask(state, MIDDLE, 1, mask)
            for reverse in (False, True):
                for _ in reference.predictor.propagate_in_video(state, reverse=reverse):
                    pass

        results["SAM2VideoPredictor"] = CallCounter("sam2_video_predictor.py").count(theirs)
    print(json.dumps(results, indent=1))
    if args.functions:
        for name, count in counter.functions.most_common():
            print(f"{count:4} {name}")
    if args.output is not None:
        earlier = json.loads(args.output.read_text()) if args.output.exists() else {}
        write_text(args.output, json.dumps({**earlier, args.name: results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
