"""Files that a page sends: in batches, each in a folder of its own that is deleted with it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server.page_files import upload_path


class Batch:
    """Files that are opened or loaded together.

    Args:
        parent: folder in which that of the batch is made.
        largest: bytes of all files.

    Attributes:
        id: known to the client.
        folder: of the files.
        received: bytes, those of files that are still being sent among them.
        names: the client's names of the files, by those in the folder.
    """

    def __init__(self, parent: Path, largest: int):
        self.id = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(dir=parent))
        self.received = 0
        self.names: dict[str, str] = {}
        self._largest = largest

    async def receive(self, name: str, length: int, content: AsyncIterator[bytes]) -> str:
        """Write a file as it comes in, and return its name in the folder; one that breaks off is deleted.

        Args:
            name: the client's, perhaps with folders.
            length: bytes, as stated before they come.
            content: the bytes.

        Raises:
            UserError: all files together are too large, or the batch was deleted meanwhile.
        """
        if self.received + length > self._largest:
            raise UserError(
                f"the files take more than the {self._largest / 2**30:.1f} GiB of this server: start it with a larger "
                "--largest-image."
            )
        path = upload_path(self.folder, name)
        self.received += length
        try:
            with path.open("xb") as file:
                async for part in content:
                    await run_in_threadpool(file.write, part)
            if not path.exists():
                raise dropped()
        except BaseException as error:  # also of a client that goes away
            self.received -= length
            path.unlink(missing_ok=True)
            if isinstance(error, FileNotFoundError):  # the folder is gone
                raise dropped() from error
            raise
        self.names[path.name] = name
        return path.name

    def delete(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def dropped() -> UserError:
    """Return the error of a call that names a batch which is gone."""
    return UserError("these files are no longer on the server, as others were sent after them: send them again.")


@contextmanager
def client_names(files: Batch | Path, whole: str = "the folder") -> Iterator[None]:
    """Context in which errors name files as the client does, not by their paths on the server.

    Args:
        files: a batch; or the folder that clients are served from.
        whole: what stands for the folder itself.
    """
    root, names = (files.folder, files.names) if isinstance(files, Batch) else (files, {})
    try:
        yield
    except UserError as error:
        text = str(error)
        # never a short relative path, which may be a word of the sentence
        for place in {str(one) for one in (root.absolute(), root.resolve()) if one != Path(one.anchor)}:
            for name in sorted(names, key=len, reverse=True):
                text = text.replace(str(Path(place) / name), names[name])
            text = text.replace(f"{place}{os.sep}", "").replace(place, whole)
        raise UserError(text) from error
