"""What pyproject.toml cannot say: the page of errors, which `flatgrad errors` prints, is built into the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithErrors(build_py):
    """Copies docs/errors.md into the package. An editable installation reads the page where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file("docs/errors.md", str(Path(self.build_lib) / "flatgrad" / "errors.md"))


setup(cmdclass={"build_py": BuildWithErrors})
