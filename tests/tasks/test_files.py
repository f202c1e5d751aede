"""Reading, finding and downloading data files: good ones of every format, and each way in which they can be bad."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import TaskError
from edgeprune.tasks import files
from edgeprune.tasks.files import DataSet, Download
from edgeprune.tasks.mnist import MNIST


def compress(data: bytes) -> bytes:
    """As .gz without a time stamp: the names of the tests are made from these bytes, and each process has to agree."""
    return gzip.compress(data, mtime=0)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def served(folder: Path, name: str, body: bytes, gives: tuple[str, ...] = ()) -> Download:
    """A download that a file stands in for."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(body)
    return Download(((folder / name).as_uri(),), hashlib.sha256(body).hexdigest(), gives or (name,))


@pytest.fixture(autouse=True)
def no_other_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEPRUNE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    packed=st.booleans(),
)
def test_idx_round_trip(tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, packed: bool) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert np.array_equal(files.read_idx(path, (None, *shape[1:])), array)


IMAGES = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 251


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (compress(idx(IMAGES))[:-9], "not a complete .gz file"),
        (compress(idx(IMAGES))[:40] + b"\0" * 20, "not a complete .gz file"),
        (b"<html>not found</html>", "not a complete .gz file"),
        (b"", "begins with 0x, expected 0x00000803"),
        (compress(idx(IMAGES, kind=13)), "begins with 0x00000d03, expected 0x00000803"),
        (compress(idx(IMAGES[0])), "begins with 0x00000802"),
        (compress(idx(IMAGES)[:9]), "holds no values"),
        (compress(idx(IMAGES)[:-5]), "1563 bytes of data, expected 1568"),
        (compress(idx(IMAGES) + b"more"), "1572 bytes of data, expected 1568"),
        (compress(idx(IMAGES[:, :27])), "holds 2 x 27 x 28 values, expected n x 28 x 28"),
    ],
)
def test_a_bad_idx_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=said) as error:
        files.read_idx(path, (None, 28, 28))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_labels_are_counted_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(idx(np.array([0, 9, 3])))
    assert files.read_labels(tmp_path / "labels", 3, 10).tolist() == [0, 9, 3]
    with pytest.raises(TaskError, match=r"labels is damaged: holds the label 9, expected 0\.\.8"):
        files.read_labels(tmp_path / "labels", 3, 9)
    with pytest.raises(TaskError, match="holds 3 values, expected 4"):
        files.read_labels(tmp_path / "labels", 4, 10)


def test_cifar10_records(tmp_path: Path) -> None:
    records = np.zeros((10_000, 3073), dtype=np.uint8)
    records[7, 0] = 9
    records[7, 1 + 1024 + 32 * 2 + 5] = 200  # green, row 2, column 5
    path = tmp_path / "data_batch_1.bin"
    records.tofile(path)
    images, labels = files.read_cifar10(path)
    assert images.shape == (10_000, 3, 32, 32) and labels[7] == 9 and labels.sum() == 9
    assert images[7, 1, 2, 5] == 200 and np.count_nonzero(images) == 1
    records[3, 0] = 10
    records.tofile(path)
    with pytest.raises(TaskError, match=r"data_batch_1\.bin is damaged: holds the label 10"):
        files.read_cifar10(path)
    records[:-1].tofile(path)
    with pytest.raises(TaskError, match="30726927 bytes, expected 30730000"):
        files.read_cifar10(path)


@pytest.mark.parametrize("packed", [False, True])
def test_csv_with_quotes_and_windows_line_ends(tmp_path: Path, packed: bool) -> None:
    text = b'\xef\xbb\xbf"ID","a"\r\n1,"2.5"\r\n2,-3e2\r\n'
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text, mtime=0) if packed else text)
    header, values = files.read_csv(path, columns=2, rows=2)
    assert header == ["ID", "a"]
    assert values.tolist() == [[1, 2.5], [2, -300]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b\n1,2\n3\n", "not a table of numbers"),
        (b"a,b\n1,x\n2,3\n", "not a table of numbers"),
        (b"a,b,c\n1,2,3\n4,5,6\n", "3 names and 3 columns, expected 2"),
        (b"a,b\n1,2,3\n4,5,6\n", "2 names and 3 columns, expected 2"),
        (b"a,b\n1,2\n", "1 rows, expected 2"),
        (b"a,b\n1,2\n3,nan\n", "row 2 holds a value that is no number"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(TaskError, match=f"t.csv is damaged: {said}"):
        files.read_csv(tmp_path / "t.csv", columns=2, rows=2)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot read data file .*gone: No such file"):
        files.read_bytes(tmp_path / "gone")


# Finding and downloading.


@pytest.fixture
def two_files(tmp_path: Path) -> DataSet:
    """A data set of two files that can be downloaded."""
    net = tmp_path / "net"
    return DataSet("Two", "two", (served(net, "a.gz", gzip.compress(b"a", mtime=0)), served(net, "b", b"b")))


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"local")
    return folder


def test_the_order_of_places(tmp_path: Path, two_files: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    given, environment = tmp_path / "given", tmp_path / "environment"
    cache = tmp_path / "home" / ".cache" / "edgeprune" / "data"
    monkeypatch.setenv("EDGEPRUNE_DATA", str(environment))
    expected = [given / "two", given, environment / "two", environment, cache / "two", cache]
    assert files.search_places(two_files, given) == expected
    for place in reversed(expected):
        fill(place, "a", "b.gz")
        assert files.locate(two_files, given) == {"a": place / "a", "b": place / "b.gz"}


def test_the_folder_of_another_data_set_does_not_count(tmp_path: Path) -> None:
    names = [f"{name}.gz" for name in MNIST.files]
    other = fill(tmp_path / "fashion-mnist", *names)
    assert other not in files.search_places(MNIST, other)
    assert files.search_places(replace(MNIST, folder="fashion-mnist"), other)[1] == other


def test_what_is_missing_is_downloaded_and_then_stays(tmp_path: Path, two_files: DataSet) -> None:
    found = files.locate(two_files, tmp_path / "data")
    assert found == {"a": tmp_path / "data" / "two" / "a.gz", "b": tmp_path / "data" / "two" / "b"}
    assert gzip.decompress(found["a"].read_bytes()) == b"a"
    offline = replace(two_files, downloads=tuple(replace(one, urls=()) for one in two_files.downloads))
    assert files.locate(offline, tmp_path / "data") == found


def test_a_download_that_was_cut_short_goes_on(tmp_path: Path, two_files: DataSet) -> None:
    found = files.locate(two_files, tmp_path / "data")
    found["b"].unlink()
    assert files.locate(two_files, tmp_path / "data")["b"].read_bytes() == b"b"


def test_downloads_are_not_mixed_with_other_files(tmp_path: Path, two_files: DataSet) -> None:
    fill(tmp_path / "data" / "two", "a")
    with pytest.raises(TaskError, match="Two in .*two is incomplete: b missing; put what is missing there"):
        files.locate(two_files, tmp_path / "data")
    assert not (tmp_path / "data" / "two" / "b").exists()


def test_a_download_with_the_wrong_checksum_is_not_kept(tmp_path: Path, two_files: DataSet) -> None:
    (tmp_path / "net" / "b").write_bytes(b"changed on the way")
    with pytest.raises(TaskError, match="net/b gave 18 bytes with SHA-256"):
        files.locate(two_files, tmp_path / "data")
    assert not (tmp_path / "data" / "two" / "b").exists()


def test_the_second_mirror_is_tried(tmp_path: Path) -> None:
    good = served(tmp_path / "net", "a", b"a")
    gone = replace(good, urls=((tmp_path / "gone").as_uri(), *good.urls))
    assert files.fetch(gone) == b"a"


def test_members_of_an_archive(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("x.bin", "y.bin", "readme.html"):
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    download = served(tmp_path / "net", "all.tar.gz", packed.getvalue(), ("x.bin", "y.bin"))
    found = files.locate(DataSet("All", "all", (download,)), tmp_path / "data")
    assert {name: path.read_bytes() for name, path in found.items()} == {"x.bin": b"x.bin", "y.bin": b"y.bin"}
    assert sorted(path.name for path in (tmp_path / "data" / "all").iterdir()) == ["x.bin", "y.bin"]


def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path: Path) -> None:
    offline = tuple(replace(one, urls=((tmp_path / "no-network").as_uri(),)) for one in MNIST.downloads)
    with pytest.raises(TaskError) as error:
        files.locate(replace(MNIST, downloads=offline), tmp_path / "data")
    assert f"MNIST not found in {tmp_path / 'data'}" in error.value.message
    assert error.value.hint.startswith(
        "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz into {tmp_path / 'data' / 'mnist'}, "
    )
    assert "--data-dir" in error.value.hint and "\n" not in str(error.value)


def test_a_full_disk_is_said(tmp_path: Path, two_files: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files.store, "write_bytes", full)
    with pytest.raises(TaskError, match="No space left on device"):
        files.locate(two_files, tmp_path / "data")


def hang(url: str, timeout: float) -> None:
    time.sleep(60)


def refuse(url: str, timeout: float) -> None:
    raise ConnectionRefusedError("refused")


@pytest.mark.parametrize(("answer", "said"), [(hang, "no answer from .*a within 0.1 s"), (refuse, "refused")])
def test_a_network_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, float], None], said: str
) -> None:
    monkeypatch.setattr(files, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(files.urllib.request, "urlopen", answer)
    with pytest.raises(OSError, match=said):
        files.fetch(served(tmp_path / "net", "a", b"a"))
