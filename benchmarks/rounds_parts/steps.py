"""Commands that are run once, whatever interrupts them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.files import write_text


class Steps:
    """Runner of commands, each of which has a name; what is done is noted in a folder.

    Args:
        done: folder with a file per command that has ended.

    Attributes:
        commands: all commands, without the words with which some continued.
    """

    def __init__(self, done: Path):
        self.done = done
        self.commands: list[str] = []

    def __call__(self, name: str, *command: str, resumed: Sequence[str] = (), ended: bool = False) -> None:
        """Run a command unless it has ended before; exit where another one has ended under its name.

        Args:
            name: of the step.
            command: words of the command; the first one is a script of this Python's environment.
            resumed: the command that continues an interrupted run instead.
            ended: the command has ended, but was interrupted before that was noted.

        Raises:
            SystemExit: the step was run with another command before.
        """
        said = shlex.join(command)
        self.commands.append(said)
        marker = self.done / name
        if marker.is_file():
            before = marker.read_text().strip()
            if before != said:
                sys.exit(f"the step {name} was run before as\n  {before}\nnot as\n  {said}\ngive another folder.")
            return
        if not ended:
            words = [*(resumed or command)]
            print(f"$ {shlex.join(words)}", flush=True)
            subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=True)
        write_text(marker, f"{said}\n")
