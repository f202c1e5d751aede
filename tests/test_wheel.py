"""The wheel stands on its own: built, installed into an empty environment and used from another folder."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import edgeprune
from edgeprune.target import target_names

CHECKOUT = Path(edgeprune.__file__).parents[1]


def run(*command: object, folder: Path) -> str:
    """Standard output of a command that does not see this checkout; fails the test with what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Library:
    """A 64-bit little-endian shared object, read by the ELF-64 Object File Format (System V gABI, chapters 4 and 5).

    machine: e_machine. needed: names of the libraries that it needs. exported: names of the symbols that it defines.
    """

    LOAD, DYNAMIC, NEEDED, HASH, STRTAB, SYMTAB = 1, 2, 1, 4, 5, 6

    def __init__(self, data: bytes) -> None:
        assert data[:6] == b"\x7fELF\x02\x01"
        self.data = data
        (self.machine,) = struct.unpack_from("<H", data, 18)
        (offset,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", data, offset + size * index) for index in range(count)]
        self.loads = [(header[3], header[2], header[5]) for header in headers if header[0] == self.LOAD]
        (dynamic,) = (header for header in headers if header[0] == self.DYNAMIC)
        entries = [struct.unpack_from("<QQ", data, dynamic[2] + place) for place in range(0, dynamic[5], 16)]
        tags = {tag: self.place(value) for tag, value in reversed(entries)}
        names, symbols = tags[self.STRTAB], tags[self.SYMTAB]
        self.needed = [self.text(names + value) for tag, value in entries if tag == self.NEEDED]
        (number,) = struct.unpack_from("<I", data, tags[self.HASH] + 4)
        found = [struct.unpack_from("<IBBHQQ", data, symbols + 24 * index) for index in range(1, number)]
        # A section of 0 says that another library must define the symbol.
        self.exported = {self.text(names + name) for name, _, _, section, _, _ in found if section}

    def place(self, address: int) -> int:
        """Offset in the file of an address in memory; -1 for what is no address in it."""
        for begin, offset, size in self.loads:
            if begin <= address < begin + size:
                return address - begin + offset
        return -1

    def text(self, place: int) -> str:
        return self.data[place : self.data.index(b"\0", place)].decode()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment with the wheel. The dependencies are this environment's, appended to its path; a .pth
    file in them is not read there, so that an editable install of the checkout stays invisible."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        wheel,
        folder=folder,
    )
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(packages) / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (CHECKOUT / "edgeprune").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".sha256":
            assert path.relative_to(CHECKOUT).as_posix() in names
    assert {f"edgeprune/targets/{name}.toml" for name in target_names()} <= names
    assert not [name for name in names if name.startswith(("tests", "scripts", "docs", "lab"))]


def test_the_wheel_is_for_every_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".sha256")]


@pytest.mark.parametrize(("arch", "machine"), [("x86_64", 62), ("aarch64", 183)])
def test_each_library_needs_nothing_and_exports_little(wheel: Path, arch: str, machine: int) -> None:
    library = Library(zipfile.ZipFile(wheel).read(f"edgeprune/kernels/lib/libedgeprune-{arch}.so"))
    assert library.machine == machine
    assert library.needed == []
    assert library.exported == {"RegisterCustomOps", "edgeprune_level"}


def test_a_wheel_can_be_built_from_the_source_archive(tmp_path: Path) -> None:
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path)
    run(*build, "--sdist", CHECKOUT, folder=tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = [name.partition("/")[2] for name in content.getnames()]
        content.extractall(tmp_path, filter="data")
    folder = CHECKOUT / "edgeprune" / "kernels" / "src"
    sources = [path for path in folder.rglob("*") if path.suffix in (".c", ".h", ".inc")]
    assert {path.relative_to(CHECKOUT).as_posix() for path in sources} | {"hatch_build.py"} <= set(names)
    assert not [name for name in names if name.endswith(".so")]
    run(*build, "--wheel", archive.with_name(archive.name.removesuffix(".tar.gz")), folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert {f"edgeprune/kernels/lib/libedgeprune-{arch}.so" for arch in ("x86_64", "aarch64")} <= set(
        zipfile.ZipFile(wheel).namelist()
    )


def test_the_whole_job_runs_from_the_wheel(programs: Path, tmp_path: Path) -> None:
    where = run(programs / "python", "-c", "import edgeprune; print(edgeprune.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(programs.parent)
    job = programs / "edgeprune"

    ticket = run(
        job, "find", "digits", "--target", "rpi4", "--seeds", "1", "--levels", "2", folder=tmp_path
    ).splitlines()
    assert len(ticket) == 1
    bundles = run(job, "export", "--target", "rpi4", folder=tmp_path).splitlines()
    assert len(bundles) == 4
    measured = run(job, "bench", bundles[0], "--target", "local", "--pairs", "1", folder=tmp_path).splitlines()
    assert len(measured) == 1
    (page,) = run(job, "report", folder=tmp_path).splitlines()
    assert "<html" in (tmp_path / page).read_text()[:2000]
    for path in (*ticket, *bundles, *measured):
        assert json.loads(run(job, "inspect", path, "--json", folder=tmp_path))

    code = f"""
import edgeprune, numpy
model = edgeprune.load({bundles[0]!r})
print(model(numpy.zeros((3, 64), numpy.float32)).shape)
"""
    assert run(programs / "python", "-c", code, folder=tmp_path) == "(3, 10)\n"
