"""What pyproject.toml cannot say: compile the message catalogues while building, in editable
installs too, and four libraries in C++: the kernel, an extension that asks tensors, one that leaves
the program's modes, and one that makes the visits of a steady step.
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
NATIVE_DIR = Path("src", "seismograd", "measure", "native")
KERNEL_DIR = NATIVE_DIR / "kernel"
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


class BuildLibraries(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/std:c++17", "/O2", "/EHsc"]
        else:
            ext.extra_compile_args = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread"]
            ext.extra_link_args = ["-pthread"]
        super().build_extension(ext)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        # and no PyInit function: the kernel is no module, ctypes loads it
        return ext.export_symbols if ext is KERNEL else super().get_export_symbols(ext)


# Optional: where there is no compiler, seismograd measures with torch's operations and says so.
KERNEL = Extension(
    "seismograd.measure.native._kernel",
    sources=[str(KERNEL_DIR / "kernel.cpp")],
    depends=[str(path) for path in sorted(KERNEL_DIR.glob("*.[hi]*"))],
    language="c++",
    optional=True,
    py_limited_api=HAS_STABLE_ABI,
)

# Optional too: without it Python asks tensor by tensor. Builds without the GIL would get it back
# from a module that does not say that it needs none.
TENSOR_READS = Extension(
    "seismograd.measure.native._tensor_reads",
    sources=[str(NATIVE_DIR / "reads" / "tensor_reads.cpp")],
    include_dirs=[str(NATIVE_DIR)],
    depends=[
        str(NATIVE_DIR / "owned_reference.hpp"),
        *(str(path) for path in sorted((NATIVE_DIR / "reads").glob("*.inc"))),
    ],
    language="c++",
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    optional=True,
    py_limited_api=True,
)

# Optional as well: without it an exception of a signal handler may leave gradients off.
GUARDS = Extension(
    "seismograd.tensors._guards",
    sources=[str(Path("src", "seismograd", "tensors", "guards.cpp"))],
    language="c++",
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    optional=True,
    py_limited_api=True,
)

# Optional likewise: without it Python makes the visits of a steady step.
STEADY_DIR = Path("src", "seismograd", "capture", "steady", "native")
VISITS = Extension(
    "seismograd.capture.steady._visits",
    sources=[str(path) for path in sorted(STEADY_DIR.glob("*.cpp"))],
    depends=[str(path) for path in sorted(STEADY_DIR.glob("*.[hi]*"))],
    include_dirs=[str(NATIVE_DIR)],
    language="c++",
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    optional=True,
    py_limited_api=True,
)

setup(
    cmdclass={"build_py": BuildWithCatalogues, "build_ext": BuildLibraries},
    ext_modules=[KERNEL, TENSOR_READS, GUARDS, VISITS] if HAS_STABLE_ABI else [KERNEL],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if HAS_STABLE_ABI else {},
)
