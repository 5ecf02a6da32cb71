"""What pyproject.toml cannot say: compile the message catalogues while building, in editable
installs too, and the kernel in C++.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

LOCALE_DIR = Path(__file__).parent / "src" / "seismograd" / "locale"
KERNEL_DIR = Path("src", "seismograd", "measure", "native", "kernel")
# The kernel uses nothing of Python's, so one build serves every version from 3.11 on; builds
# without the GIL know no such tag.
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildWithCatalogues(build_py):
    def run(self) -> None:
        # Beside their sources and not in the build folder: an editable install runs from there. Git
        # ignores them.
        for po in sorted(LOCALE_DIR.glob("*/LC_MESSAGES/*.po")):
            with po.open("rb") as source, po.with_suffix(".mo").open("wb") as target:
                write_mo(target, read_po(source))
        super().run()


class BuildKernel(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/std:c++17", "/O2", "/EHsc"]
        else:
            ext.extra_compile_args = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread"]
            ext.extra_link_args = ["-pthread"]
        super().build_extension(ext)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        # and no PyInit function: the library is no module, ctypes loads it
        return ext.export_symbols


# Optional: where there is no compiler, seismograd measures with torch's operations and says so.
KERNEL = Extension(
    "seismograd.measure.native._kernel",
    sources=[str(KERNEL_DIR / "kernel.cpp")],
    depends=[str(path) for path in sorted(KERNEL_DIR.glob("*.[hi]*"))],
    language="c++",
    optional=True,
    py_limited_api=HAS_STABLE_ABI,
)

setup(
    cmdclass={"build_py": BuildWithCatalogues, "build_ext": BuildKernel},
    ext_modules=[KERNEL],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if HAS_STABLE_ABI else {},
)
