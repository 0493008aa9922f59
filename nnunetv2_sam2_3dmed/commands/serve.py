"""Serve prompted segmentation to viewers: napari, 3D Slicer, MITK, ITK-SNAP, and a page for the browser.

    sam2_3dmed serve
    sam2_3dmed serve --model sam2.1_hiera_tiny --folder images/ --port 1527
    sam2_3dmed serve --round lesions/
    SAM2_3dMed_key=SECRET sam2_3dmed serve --host 0.0.0.0

napari, 3D Slicer and MITK connect with their nnInteractive plugins, ITK-SNAP with its deep learning extension, and a
browser opens the address itself. The server listens to this machine only, unless --host names another address, which
needs a key: clients send it as their API key. ITK-SNAP knows no key: let it in through SSH (ssh -L 1527:localhost:1527
MACHINE).

A prompt is answered on its slice and then propagated, nearest slices first, until the budget is over; the rest
follows in the background and comes with the next answer. Viewers give up after 60 seconds.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.commands.options import add_prompted_model, check_image_size
from nnunetv2_sam2_3dmed.errors import UserError

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue

KEY_VARIABLE = "SAM2_3dMed_key"
_GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_prompted_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=1527, help="port (default: %(default)s, nnInteractive's)")
    parser.add_argument(
        "--itksnap-port", type=int, metavar="PORT", help="a second port, for ITK-SNAP (default: the same port)"
    )
    parser.add_argument(
        "--key",
        help=f"that clients have to send; better in the environment as {KEY_VARIABLE}, since other users of this "
        "machine see command lines",
    )
    parser.add_argument("--sessions", type=int, default=3, metavar="N", help="clients at a time (default: %(default)s)")
    parser.add_argument(
        "--memory",
        type=float,
        default=2.0,
        metavar="GIB",
        help="memory for encoded slices of all sessions (default: %(default)g)",
    )
    parser.add_argument(
        "--largest-image",
        type=float,
        default=4.0,
        metavar="GIB",
        help="images that are larger, uncompressed, are refused (default: %(default)g)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="after which a prompt is answered with what is segmented (default: %(default)g)",
    )
    parser.add_argument("--folder", type=Path, help="images that the page offers (default: none)")
    parser.add_argument(
        "--round",
        dest="round_folder",
        type=Path,
        metavar="FOLDER",
        help="a round of sam2_3dmed annotate, whose cases the page opens one by one (default: none)",
    )


def run(args: argparse.Namespace) -> None:
    check_image_size(args.image_size)
    check_installed()
    from nnunetv2_sam2_3dmed.server.settings import Settings

    settings = Settings(
        model=args.model,
        device=args.device,
        precision=args.precision,
        image_size=args.image_size,
        host=args.host,
        port=args.port,
        itksnap_port=args.itksnap_port,
        key=args.key if args.key is not None else os.environ.get(KEY_VARIABLE) or None,
        sessions=args.sessions,
        memory_bytes=in_bytes("--memory", args.memory),
        largest_image_bytes=in_bytes("--largest-image", args.largest_image),
        budget_s=args.budget,
        folder=args.folder,
        round=None if args.round_folder is None else open_round(args.round_folder),
    )
    # before the model is loaded, which takes longer
    sockets = listen(settings.host, settings.port, settings.itksnap_port)

    from nnunetv2_sam2_3dmed.server.app import create_app, make_server

    app = create_app(settings)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    for found in sockets:
        print(f"listening at http://{shown}:{found.getsockname()[1]}", flush=True)
    state = app.state.server
    print(f"model {state.model}, {state.sessions.network}", flush=True)
    print("open this address in a browser, or give it to a viewer; press Ctrl+C to end", flush=True)
    with suppress(KeyboardInterrupt):
        make_server(app).run(sockets)


def open_round(folder: Path) -> RoundQueue:
    """Return the queue of a round, whose dataset says which labels there are.

    Raises:
        UserError: there is no such round or dataset.
    """
    from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
    from nnunetv2_sam2_3dmed.annotation.raw_dataset import open_dataset
    from nnunetv2_sam2_3dmed.annotation.rounds import Round

    return RoundQueue(folder, open_dataset(Round.read(folder).made_by["dataset"]).objects)


def in_bytes(option: str, gib: float) -> int:
    """Return a number of GiB in bytes.

    Raises:
        UserError: it is not finite.
    """
    if not math.isfinite(gib):
        raise UserError(f"{option} is {gib}, but must be a number of GiB.")
    return int(gib * _GIB)


def check_installed() -> None:
    """Check that the extra ``server`` is installed.

    Raises:
        UserError: it is not.
    """
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the server needs {', '.join(missing)}, not installed here: pip install 'nnunetv2-sam2-3dmed[server]'."
        )


def listen(host: str, *ports: int | None) -> list[socket.socket]:
    """Return sockets bound to an address's ports; None stands for no port.

    Raises:
        UserError: a port is taken, or the address is none of this machine.
    """
    sockets: list[socket.socket] = []
    for port in dict.fromkeys(port for port in ports if port is not None):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            # asyncio sends answers at once (TCP_NODELAY) only where the protocol is named; else each waits 40 ms
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise UserError(
                f"cannot listen at {host}, port {port}: {error.strerror or error}; end what uses it, or choose another "
                "--port."
            ) from error
    return sockets
