"""The example notebooks: `python -m tests.notebooks` runs them and stores their outputs; tests compare these.

Needs nbformat, nbclient and ipykernel. Cells with the tag `time` print times: their outputs are stored, not compared.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
#: A cell may take so many seconds.
_SECONDS = 300
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def names() -> list[str]:
    """The notebooks, in the order in which they are read."""
    return sorted(path.name for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    """A notebook as it is stored."""
    import nbformat

    return nbformat.read(FOLDER / name, as_version=4)


def executed(notebook: Any) -> Any:
    """The notebook with the outputs that its cells have in this Python.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    import nbclient
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        """Starts this Python, whatever kernels are installed."""

        @property
        def kernel_spec(self) -> Any:
            from jupyter_client.kernelspec import KernelSpec

            command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    manager = Manager(kernel_name="python3")
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=_SECONDS, resources={"metadata": {"path": str(FOLDER)}}, record_timing=False
    )
    with tempfile.TemporaryDirectory() as folder:  # of a user who has not run it before
        folders = {"IPYTHONDIR": folder, "FLATGRAD_CACHE_DIR": folder}
        asyncio.run(client.async_execute(env={**os.environ, "PYTHONPATH": paths, **folders}))
    return notebook


def texts(cell: Any) -> str:
    """What a cell printed, and the plain texts of its results."""
    parts: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            parts.append(output.data.get("text/plain", "") + "\n")
    return _ADDRESS.sub("", "".join(parts))


def is_timed(cell: Any) -> bool:
    """Whether the cell's outputs are times, or depend on them."""
    return "time" in cell.metadata.get("tags", [])


def store(name: str) -> None:
    """Run a notebook, and write it with its outputs."""
    import nbformat

    notebook = executed(read(name))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.pop("id", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, FOLDER / name)


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        store(each)
