"""Synthetic videos with ground truth: an echocardiogram in grey, and an endoscopy in colour. No patient is in them.

    python -m nnunetv2_sam2_3dmed.video.phantoms ultrasound FOLDER --videos 20
    python -m nnunetv2_sam2_3dmed.video.phantoms ultrasound_swept FOLDER --videos 20     # the probe slides
    python -m nnunetv2_sam2_3dmed.video.phantoms endoscopy FOLDER --videos 20

FOLDER gets ``videos/NAME`` and ``masks/NAME``, folders of PNG frames, and ``dataset.json``, as ``sam2_3dmed videos``
and ``sam2_3dmed prompt-benchmark --videos`` read them. Everything is drawn from a seed. They show how the commands work
together, and tell methods apart that follow an object from those that do not; they say nothing about patients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder, write_text
from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks

VENTRICLE, ATRIUM = 1, 2
POLYP = 1
FRAMES, SIDE = 40, 112
SEED = 20260


@dataclass(frozen=True)
class VideoPhantom:
    """A synthetic video.

    Attributes:
        frames: (frames, rows, columns, 3), uint8.
        labels: (frames, rows, columns), uint8.
    """

    frames: np.ndarray
    labels: np.ndarray


def ultrasound_phantom(
    rng: np.random.Generator, frames: int = FRAMES, side: int = SIDE, sweep: float = 0.0
) -> VideoPhantom:
    """Draw an apical view of a ventricle (1) and an atrium (2), which beat against each other.

    Speckle is fixed to the tissue, moves and stretches with it, and decorrelates slowly. Both chambers are dark within
    bright walls of which parts drop out. Echoes weaken and widen with depth, a part of the sector lies in a shadow, and
    text is burnt in outside of it.

    Args:
        rng: determines all.
        frames: number of frames, about two to four beats.
        side: rows and columns.
        sweep: way of the heart from left to right, as a share of the side, as if the probe slid over the chest.
    """
    rows, columns = np.mgrid[:side, :side] / side
    apex = np.array([0.06, 0.5 + rng.uniform(-0.03, 0.03)])
    depth, angle = np.hypot(rows - apex[0], columns - apex[1]), np.arctan2(columns - apex[1], rows - apex[0])
    half = np.radians(rng.uniform(34, 42))
    sector = (np.abs(angle) < half) & (depth > 0.02) & (depth < 0.88)

    # the heart at rest: centres and half axes as shares of the side, tilted together
    tilt, middle = np.radians(rng.uniform(-14, 14)), np.array([0.42, 0.5]) + rng.uniform(-0.03, 0.03, 2)
    ventricle = np.array([rng.uniform(0.19, 0.23), rng.uniform(0.095, 0.13)])
    atrium = np.array([rng.uniform(0.09, 0.12), rng.uniform(0.09, 0.12)])
    wall = rng.uniform(0.03, 0.045)
    beats, phase = rng.uniform(2.0, 3.5), rng.uniform(0, 2 * np.pi)
    strength, breath = rng.uniform(0.30, 0.42), rng.uniform(0.025, 0.05)

    texture = _Speckle(rng, side)
    gain, attenuation = rng.uniform(0.85, 1.1), rng.uniform(0.9, 1.6)
    shadow = rng.uniform(-0.7, 0.7) * half
    dropout = _smooth(rng.standard_normal((side, side)), side * 0.09)
    text = _burnt_in(side, f"SYNTHETIC  {rng.integers(55, 95)} bpm")
    images, labels = [], []
    for number in range(frames):
        time = number / frames
        squeezed = _systole(beats * time + phase / (2 * np.pi))  # 0 in diastole, 1 in systole
        moved = middle + np.array([breath, 0.4 * breath]) * np.sin(2 * np.pi * time + phase)
        moved[1] += sweep * (time - 0.5)
        # coordinates of each pixel along and across the heart; the mitral plane descends in systole
        plane = np.array([0.16 + 0.035 * squeezed, 0.0])
        along, across = _turned(rows - moved[0], columns - moved[1], tilt)
        inner = ventricle * (1 - strength * squeezed * np.array([0.45, 1.0]))
        bent = across - 0.06 * np.sin(3 * along + phase)
        first = _ellipse(along - plane[0] + inner[0], bent, inner, 2.3)
        chamber = atrium * (1 + 0.6 * strength * squeezed * np.array([0.5, 1.0]))
        second = _ellipse(along - plane[0] - chamber[0] - 0.012, bent, chamber, 2.0)
        ventricle_mask, atrium_mask = first < 1, (second < 1) & (first >= 1)

        tissue = np.full((side, side), 0.34)
        thick = wall * (1 + 0.7 * squeezed)
        for distance, axes in ((first, inner), (second, chamber)):
            outside = (distance - 1) * axes.min()
            tissue = np.where((outside >= 0) & (outside < thick), 0.72, tissue)
            tissue += 0.35 * np.exp(-((outside / 0.008) ** 2)) * (outside > -0.01)  # specular endocardium
        # pericardium
        tissue += 0.5 * np.exp(-((((first - 1) * inner.min() - thick) / 0.012) ** 2))
        # parts of the walls drop out; within the chambers is blood, and partial volume at their edge
        tissue = tissue * np.clip(1.1 - 1.1 * np.clip(dropout, 0, None), 0.06, 1)
        tissue[ventricle_mask | atrium_mask] = 0.012
        tissue = ndimage.gaussian_filter(tissue, 0.008 * side)

        # the tissue is pushed and pulled as the walls are
        pull = 1 - 0.5 * strength * squeezed * np.exp(-(((first - 1) / 1.2) ** 2))
        speckle = texture.at(along / pull, across / pull, number)
        fall = gain * np.exp(-attenuation * depth)
        fall = fall * (1 - 0.65 * np.exp(-(((angle - shadow) / 0.07) ** 2)) * (depth > 0.2))
        echo = tissue * speckle * fall
        echo = echo + 0.10 * np.exp(-depth / 0.05) * speckle  # near field
        # the beam is wider than a pulse is long, and widens with depth
        narrow, wide = (ndimage.gaussian_filter(echo, (0.3, width * side / SIDE)) for width in (0.4, 1.5))
        echo = narrow + (wide - narrow) * np.clip(depth, 0, 1)
        image = np.clip(np.log1p(40 * np.clip(echo, 0, None)) / np.log1p(40), 0, 1)  # compressed as scanners do
        image = ndimage.gaussian_filter(image, 0.55) + rng.normal(0, 0.012, image.shape)
        grey = np.where(sector, np.clip(image, 0, 1) * 255, 0)
        images.append(np.maximum(grey, text).astype(np.uint8))
        labels.append((np.where(ventricle_mask, VENTRICLE, np.where(atrium_mask, ATRIUM, 0)) * sector).astype(np.uint8))
    return VideoPhantom(np.repeat(np.stack(images)[..., None], 3, axis=-1), np.stack(labels))


def endoscopy_phantom(rng: np.random.Generator, frames: int = FRAMES, side: int = SIDE) -> VideoPhantom:
    """Draw the inside of a bowel with a polyp (1), which leaves the picture and comes back as the camera turns.

    Folds and vessels lie on a mucosa that is lit from the camera; the lumen is dark; highlights are where mucus
    reflects the lamp. Corners are dark as an endoscope's.

    Args:
        rng: determines all.
        frames: number of frames.
        side: rows and columns.
    """
    margin = side  # of the wall that the camera sees when it turns
    big = side + 2 * margin
    rows, columns = np.mgrid[:big, :big] / side - 1.5
    hue = np.array([0.80, 0.42, 0.33]) * rng.uniform(0.92, 1.08, 3)
    mottled = _smooth(rng.standard_normal((big, big)), side * 0.12)
    vessels = np.abs(_smooth(rng.standard_normal((big, big)), side * 0.05)) < 0.06
    vessels = ndimage.gaussian_filter(vessels.astype(float), 0.8)
    centre = rng.uniform(-0.12, 0.12, 2)
    away = np.hypot(rows - centre[0], columns - centre[1])
    folds = np.cos(2 * np.pi * (np.sqrt(away) * rng.uniform(3.5, 4.5) + 0.15 * mottled) + rng.uniform(0, 6))
    folds = np.clip(folds, -0.2, 1) ** 2 * np.clip(away / 0.25, 0, 1)
    height = 0.35 * folds + 0.08 * mottled

    place = np.array([0.22, -0.18]) * rng.choice([-1, 1], 2) + rng.uniform(-0.06, 0.06, 2)
    radii, tilt = np.array([rng.uniform(0.11, 0.16), rng.uniform(0.09, 0.13)]), rng.uniform(0, np.pi)
    lobes, turn = rng.integers(3, 6), rng.uniform(0, 2 * np.pi)
    path_phase, far = rng.uniform(-0.15, 0.15), rng.uniform(0.55, 0.7) * -np.sign(place[1])
    wobble, grain = rng.uniform(0, 2 * np.pi, 4), _smooth(rng.standard_normal((big, big)), 1.2)
    circle = np.hypot(*(np.mgrid[:side, :side] / (side - 1) - 0.5)) < 0.60
    images, labels = [], []
    for number in range(frames):
        time = number / (frames - 1)
        breathing = 1 + 0.10 * np.sin(2 * np.pi * (2 * time) + wobble[0])
        # the polyp, which deforms with peristalsis
        down, right = (rows - place[0]) / breathing, (columns - place[1]) / breathing
        u, v = _turned(down, right, tilt + 0.15 * np.sin(4 * np.pi * time + wobble[1]))
        around = np.arctan2(v, u)
        edge = 1 + 0.09 * np.cos(lobes * around + turn) + 0.04 * np.sin(2 * around + wobble[2])
        distance = np.hypot(u / radii[0], v / radii[1]) / edge
        inside = distance < 1
        dome = np.sqrt(np.clip(1 - distance**2, 0, 1))
        surface = np.where(inside, 0.12 + 0.40 * dome + 0.008 * grain, height)

        # where the camera looks: away from the polyp and back, with a hand's tremor
        pan = far * np.sin(np.pi * np.clip((time - 0.25 + path_phase) / 0.5, 0, 1)) ** 2
        shift = np.array(
            [
                0.02 * np.sin(9 * time + wobble[3]) + 0.02 * np.sin(23 * time),
                0.03 * np.sin(7 * time + wobble[0]) + pan * 1.25,
            ]
        )
        top, left = (np.round(margin + shift * side)).astype(int).clip(0, 2 * margin)
        window = (slice(top, top + side), slice(left, left + side))

        slope_down, slope_right = np.gradient(ndimage.gaussian_filter(surface[window], 1.0), 1 / side)
        normal = np.stack([-slope_down * 0.22, -slope_right * 0.22, np.ones((side, side))])
        normal /= np.linalg.norm(normal, axis=0)
        y, x = np.mgrid[:side, :side] / side - 0.5
        lamp = np.stack([-y * 0.9 - 0.05, -x * 0.9 + 0.05, np.full_like(y, 0.75)])
        lamp /= np.linalg.norm(lamp, axis=0)
        facing = np.clip((normal * lamp).sum(axis=0), 0, 1)
        lumen = 1 - 0.85 * np.exp(-((away[window] / 0.16) ** 2))
        light = (0.25 + 0.85 * facing) * lumen * (1.05 - 0.9 * np.hypot(y, x) ** 2)

        colour = hue[:, None, None] * (1 + 0.10 * mottled[window])
        colour = colour * (1 - 0.35 * vessels[window] * ~inside[window] * np.array([0.5, 1.0, 0.9])[:, None, None])
        redder = np.array([1.03, 0.90, 0.88])[:, None, None] * (1 + 0.05 * grain[window])
        colour = np.where(inside[window], hue[:, None, None] * redder, colour)
        mirrored = np.clip(facing + 0.012 * grain[window], 0, 1) ** 60
        shiny = np.clip(mirrored - 0.62, 0, 1) * 2.4 * lumen
        picture = np.clip(colour * light + shiny, 0, 1) * circle
        picture = ndimage.gaussian_filter(picture, (0, 0.5, 0.5)) + rng.normal(0, 0.012, picture.shape) * circle
        images.append((np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
        labels.append((inside[window] & circle).astype(np.uint8) * POLYP)
    return VideoPhantom(np.stack(images), np.stack(labels))


KINDS: dict[str, tuple[Callable[..., VideoPhantom], dict[str, int]]] = {
    "ultrasound": (ultrasound_phantom, {"background": 0, "ventricle": VENTRICLE, "atrium": ATRIUM}),
    "ultrasound_swept": (
        partial(ultrasound_phantom, sweep=0.3),
        {"background": 0, "ventricle": VENTRICLE, "atrium": ATRIUM},
    ),
    "endoscopy": (endoscopy_phantom, {"background": 0, "polyp": POLYP}),
}


def write_phantoms(
    folder: Path, kind: str, videos: int, seed: int = SEED, frames: int = FRAMES, side: int = SIDE
) -> None:
    """Write synthetic videos with their masks; a video depends on the seed and its number alone.

    Args:
        folder: gets ``videos``, ``masks`` and ``dataset.json``.
        kind: a key of :data:`KINDS`.
        videos: number of videos.
        seed: of all of them.
        frames: of each video.
        side: rows and columns.

    Raises:
        UserError: a file cannot be written, or a video is there already.
    """
    make, names = KINDS[kind]
    for number in range(videos):
        phantom = make(np.random.default_rng([seed, number]), frames, side)
        name = f"synthetic_{kind}_{number + 1:03d}"
        target = folder / "videos" / name
        if target.exists():
            raise UserError(f"{target} exists already: give a new folder.")
        target.mkdir(parents=True)
        for index, frame in enumerate(phantom.frames):
            Image.fromarray(frame).save(target / f"{index:05d}.png")
        write_png_masks(folder / "masks" / name, iter(phantom.labels))
    content = {"description": "synthetic videos, no patient", "labels": names}
    write_text(folder / "dataset.json", json.dumps(content, indent=4) + "\n")


class _Speckle:
    """Multiplicative speckle in the tissue's coordinates: two fields, from one to the other and on, with time."""

    def __init__(self, rng: np.random.Generator, side: int):
        self._side = side
        grid = 3 * side
        self._fields = [_smooth(rng.standard_normal((grid, grid)), 0.75) for _ in range(4)]
        self._turn = rng.uniform(0, 2 * np.pi)

    def at(self, along: np.ndarray, across: np.ndarray, number: int) -> np.ndarray:
        """Rayleigh-like amplitudes (rows, columns) with mean 1 at coordinates in shares of the side."""
        places = [(1.5 + along) * self._side, (1.5 + across) * self._side]
        real, imaginary, later_real, later_imaginary = (
            ndimage.map_coordinates(field, places, order=1, mode="wrap") for field in self._fields
        )
        mix = self._turn + 0.035 * number
        one = np.cos(mix) * real + np.sin(mix) * later_real
        other = np.cos(mix) * imaginary + np.sin(mix) * later_imaginary
        amplitude = np.hypot(one, other)
        return amplitude / amplitude.mean()


def _smooth(noise: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian noise smoothed, of unit standard deviation."""
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return smooth / smooth.std()


def _systole(beat: float) -> float:
    """Share of the contraction: a third of the beat to contract and relax fast, the rest to fill slowly."""
    share = beat % 1.0
    return (
        float(np.sin(np.pi * share / 0.45) ** 2)
        if share < 0.45
        else 0.12 * float(np.sin(np.pi * (share - 0.45) / 0.55) ** 2)
    )


def _turned(down: np.ndarray, right: np.ndarray, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    return np.cos(tilt) * down + np.sin(tilt) * right, np.cos(tilt) * right - np.sin(tilt) * down


def _ellipse(down: np.ndarray, right: np.ndarray, axes: np.ndarray, power: float) -> np.ndarray:
    """Distance from the centre in half axes, of a super-ellipse."""
    return (np.abs(down / axes[0]) ** power + np.abs(right / axes[1]) ** power) ** (1 / power)


def _burnt_in(side: int, words: str) -> np.ndarray:
    """Grey levels (rows, columns) of text in the upper left corner, and of a scale at the right edge."""
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    draw.text((2, 1), words.split("  ")[0], fill=170, font_size=max(7, side // 14))
    draw.text((2, side - side // 10), words.split("  ")[1], fill=200, font_size=max(7, side // 14))
    for tick in range(1, 9):
        draw.line([(side - 4, tick * side // 9), (side - 1, tick * side // 9)], fill=150)
    return np.array(image)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write synthetic videos with masks.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--side", type=int, default=SIDE, help="rows and columns")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    check_writable_folder(args.folder)
    write_phantoms(args.folder, args.kind, args.videos, args.seed, args.frames, args.side)
    print(f"wrote {args.videos} synthetic videos to {args.folder}")


if __name__ == "__main__":
    main()
