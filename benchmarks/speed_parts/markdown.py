"""The results as Markdown, and what was wanted of them beside what was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def as_markdown(parts: dict[str, Any]) -> str:
    """Tables of all parts that are there."""
    writers = {"prediction": _prediction, "training": _training, "classes": _classes, "slices": _slices}
    lines: list[str] = []
    for name, write in writers.items():
        if name in parts:
            machine = parts[name]["machine"]
            lines += [f"### {name.capitalize()}, {machine['device']}, torch {machine['versions']['torch']}", ""]
            lines += [*(f"{note}\n" for note in parts[name]["notes"]), *write(parts[name]["result"]), ""]
    return "\n".join(lines)


def _row(*cells: object) -> str:
    return f"| {' | '.join('-' if cell is None else str(cell) for cell in cells)} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), f"|{'---|' * len(cells)}"]


def _prediction(result: dict[str, Any]) -> Iterator[str]:
    for image_size, found in result.items():
        if "skipped" in found:
            yield f"{image_size} px: {found['skipped']}"
            continue
        yield f"{image_size} px, volume {_shape(found['volume'])}; full volume {_shape(found['full_volume'])}"
        yield ""
        yield from _head(
            "contender", "seconds", "slices encoded", "TFLOP", "share of matrix rate", "peak MiB", "s, full volume", ""
        )
        for name, c in found["contenders"].items():
            if "failed" in c or "full_volume" not in c:
                yield _row(name, c.get("failed", "not measured"), *[None] * 6)
                continue
            full, what = c["full_volume"], "" if c["predicted"] == found["volume"] else f" ({_shape(c['predicted'])})"
            yield _row(
                name,
                f"{c['median_seconds']:.2f}{what}",
                c["encoded_slices"],
                f"{c['gflop'] / 1e3:.2f}",
                c["share_of_matrix_rate"],
                c["peak_mib"],
                f"{full['seconds']:.1f}",
                full["how"],
            )
        yield ""
        yield from _head("times as long as", "seconds", "operations", "")
        for name, ratio in found["ratios"].items():
            yield _row(name, f"{ratio['seconds']:.2f}", f"{ratio['operations']:.2f}", ratio["how"])
        yield ""


def _training(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("trainer", "patch", "batch", "precision", "seconds per step", "share of matrix rate", "peak MiB")
    for name, found in result.items():
        if name == "ratios":
            continue
        if "median_seconds" not in found:
            yield _row(name, found.get("failed", "not measured"), *[None] * 5)
            continue
        yield _row(
            name,
            _shape(found["patch"]),
            found["batch"],
            found["precision"] + (", compiled" if found["compiled"] else ""),
            f"{found['median_seconds']:.3f}",
            found["share_of_matrix_rate"],
            found["peak_mib"],
        )


def _classes(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("classes", "seconds", "times", "GFLOP", "times", "peak MiB")
    for classes, found in result["by_classes"].items():
        yield _row(
            classes,
            found.get("median_seconds", found.get("failed")),
            *(found.get(entry) for entry in ("median_seconds_ratio", "gflop", "gflop_ratio", "peak_mib")),
        )


def _slices(result: dict[str, Any]) -> Iterator[str]:
    yield f"Counted at {result['counted']['image_size']} px:"
    yield ""
    kinds = ("stock_windows", "cached_windows", "nnunet_3d_fullres")
    yield from _head("slices", *(f"{kind}, TFLOP" for kind in kinds), "stock_windows, encoded", "cached, encoded")
    for row in result["counted"]["rows"]:
        encoded = (row[kind]["encoded_slices"] for kind in kinds[:2])
        yield _row(row["slices"], *(f"{row[kind]['gflop'] / 1e3:.1f}" for kind in kinds), *encoded)
    yield ""
    yield f"Seconds per slice, measured at {result['measured']['image_size']} px:"
    yield ""
    measured = result["measured"]["by_contender"]
    numbers = list(dict.fromkeys(n for found in measured.values() for n in found))
    yield from _head("slices", *numbers)
    for name, found in measured.items():
        yield _row(name, *(found.get(n, {}).get("seconds_per_slice") for n in numbers))


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))
