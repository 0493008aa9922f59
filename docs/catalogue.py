"""Parts of pages that are generated from the code, as Markdown: commands from argparse, trainers from their classes.

A page holds ``<!-- generated: NAME -->`` where such a part goes; :data:`PARTS` lists the names.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from nnunetv2_sam2_3dmed import trainers
from nnunetv2_sam2_3dmed.commands.main import COMMANDS, build_parser

PLACEHOLDER = re.compile(r"<!-- generated: ([\w-]+) -->")
# nnU-Net and this package make these of any trainer, so that they are not listed one by one
BY_RULE = re.compile(r"_(\d+minutes|\d+epochs|seed\d+)$")
TABLES = re.compile(r"Tables? \d+(?:(?:, | and | to )\d+)*")
# the row that the base class is; those of all others stand in their docstrings
BASE_ROW = 'Tables 1 to 9, "Ours"'


def filled(text: str) -> str:
    """Replace each placeholder of a page by the part that it names."""
    return PLACEHOLDER.sub(lambda match: PARTS[match[1]](), text)


def escaped(text: str) -> str:
    """Escape Markdown's characters outside of backticks."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    return "".join(p if i % 2 else re.sub(r"([\\*_<>\[\]|$#])", r"\\\1", p) for i, p in enumerate(pieces))


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


# ---------------------------------------------------------------- commands


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a command's actions by their names, none for a command without."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Parsers of all commands and their actions: ``plan``, ``annotate``, ``annotate rank``, ..."""
    found = {}
    for name in COMMANDS:
        found[name] = subparsers_of(build_parser([name]))[name]
        found.update({f"{name} {action}": parser for action, parser in subparsers_of(found[name]).items()})
    return found


def described(text: str) -> str:
    """Turn a command's description into Markdown: paragraphs, and indented lines as code."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            parts.append("```text\n" + textwrap.dedent(block) + "\n```")
        else:
            parts.append(escaped(" ".join(line.strip() for line in lines)))
    return "\n\n".join(parts)


def option_rows(actions: Iterable[argparse.Action], formatter: argparse.HelpFormatter) -> list[list[str]]:
    """Table rows of a parser's options: how they are spelt, and their help."""
    rows = []
    for action in actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        invocation = formatter._format_action_invocation(action).replace("|", "\\|")
        meaning = formatter._expand_help(action) if action.help else ""
        rows.append([f"`{invocation}`", escaped(meaning).replace(str(Path.home()), "~")])
    return rows


def command_section(name: str, parser: argparse.ArgumentParser) -> str:
    """The reference of one command or action."""
    level = "###" if " " in name else "##"
    formatter = parser._get_formatter()
    usage = parser.format_usage().removeprefix("usage: ")
    parts = [f"{level} {name}", described(parser.description or ""), f"```text\n{usage}```"]
    for group in parser._action_groups:
        if rows := option_rows(group._group_actions, formatter):
            plain = group.title in ("options", "positional arguments", "optional arguments")
            parts.append(
                table([escaped((group.title or "").capitalize()), "" if plain else group.description or ""], rows)
            )
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """Reference of all commands."""
    return "\n".join(command_section(name, parser) for name, parser in command_parsers().items())


def command_table() -> str:
    """A line for each command."""
    return table(
        ["command", "purpose"],
        ([f"[`sam2_3dmed {name}`](commands.md#{name})", escaped(purpose)] for name, purpose in COMMANDS.items()),
    )


# ---------------------------------------------------------------- trainers


def trainer_classes() -> dict[str, type]:
    """Trainers that nnU-Net finds in this package, without those that are made by a naming rule."""
    found = {}
    for module in pkgutil.iter_modules(trainers.__path__, f"{trainers.__name__}."):
        content = importlib.import_module(module.name)
        for name in getattr(content, "__all__", ()):
            if not BY_RULE.search(name):
                found[name] = getattr(content, name)
    return dict(sorted(found.items(), key=lambda pair: (len(pair[1].__mro__), pair[0].lower())))


def is_automatic(name: str) -> bool:
    """Tell a trainer of SAM2-3dMed or of SAM 2 fine-tuned from baselines and trainers with prompts."""
    return name.startswith(("SAM2_3dMedTrainer", "SAM2_FinetuneTrainer"))


def tables_of(name: str, trainer: type) -> str:
    """Tables of the paper that have a row of this trainer, as its docstring says."""
    found = TABLES.search((inspect.getdoc(trainer) or "").split("\n\n")[0])
    return BASE_ROW if name == "SAM2_3dMedTrainer" else found[0] if found else ""


def configuration_of(trainer: type) -> str:
    """The configuration of ``sam2_3dmed plan`` that the trainer needs."""
    slices = getattr(trainer, "required_slices", None)
    return f"3d_slices{slices}" if slices else "3d"


def changes_of(trainer: type) -> str:
    """Attributes that the class itself sets: what it changes of its parents."""
    changes: dict[str, object] = {}
    for name, value in vars(trainer).items():
        if name == "architecture_changes":
            changes.update(value)
        elif not name.startswith("_") and isinstance(value, bool | int | float | str | None):
            changes[name] = value
    return ", ".join(f"`{name}={value!r}`" for name, value in changes.items())


def trainer_rows(names: Iterable[str]) -> list[list[str]]:
    """Name, what it is, and what it sets."""
    classes = trainer_classes()
    rows = []
    for name in names:
        trainer = classes[name]
        summary = (inspect.getdoc(trainer) or "").split("\n\n")[0].replace("\n", " ")
        changes = "" if name == "SAM2_3dMedTrainer" else changes_of(trainer)
        rows.append([f"`{name}`", escaped(summary), changes])
    return rows


def paper_trainers() -> str:
    """Rows of the paper's tables with the command that trains each."""
    rows = [
        [tables_of(name, t), f"`nnUNetv2_train 9 {configuration_of(t)} 0 -tr {name}`", *row[1:]]
        for (name, t), row in zip(trainer_classes().items(), trainer_rows(trainer_classes()), strict=True)
        if is_automatic(name) and tables_of(name, t)
    ]
    rows.sort(key=lambda row: (row[0] != BASE_ROW, [int(n) for n in re.findall(r"\d+", row[0])]))
    return table(["tables", "command", "difference", "sets"], rows)


def other_trainers() -> str:
    """Variants that are in no table of the paper."""
    names = [name for name, trainer in trainer_classes().items() if is_automatic(name) and not tables_of(name, trainer)]
    return table(["trainer", "difference", "sets"], trainer_rows(names))


def prompt_trainers() -> str:
    """Trainers of models that take prompts."""
    return table(["trainer", "", "sets"], trainer_rows(n for n in trainer_classes() if n.startswith("SAM2_Prompt")))


def baseline_trainers() -> str:
    """Networks of other papers."""
    return table(["trainer", "", "sets"], trainer_rows(n for n in trainer_classes() if n.startswith("nnUNetTrainer")))


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "command-table": command_table,
    "paper-trainers": paper_trainers,
    "other-trainers": other_trainers,
    "prompt-trainers": prompt_trainers,
    "baseline-trainers": baseline_trainers,
}
