import ctypes
import logging
import shutil
from pathlib import Path

import pytest

from deconvnet import kernels

needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler"
)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DECONVNET_KERNELS", raising=False)
    kernels.load_kernel.cache_clear()
    yield
    kernels.load_kernel.cache_clear()


@pytest.fixture
def tripler(tmp_path, monkeypatch):
    """A kernel of one function, in a folder of its own."""
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "__init__.py"))
    source = tmp_path / "tripler.cpp"
    source.write_text('extern "C" int triple(int number) { return 3 * number; }')
    return source


def assert_not_loaded(name, caplog, reason):
    with caplog.at_level(logging.WARNING):
        assert kernels.load_kernel(name) is None
        assert kernels.load_kernel(name) is None
    assert len(caplog.messages) == 1  # said once
    assert reason in caplog.messages[0]
    assert "\n" not in caplog.messages[0]


@needs_compiler
def test_a_kernel_is_compiled_once_and_kept(tripler):
    assert kernels.load_kernel("tripler").triple(ctypes.c_int(14)) == 42
    (library,) = kernels.cache_folder().iterdir()
    made = library.stat().st_mtime_ns
    kernels.load_kernel.cache_clear()
    assert kernels.load_kernel("tripler").triple(ctypes.c_int(5)) == 15
    assert library.stat().st_mtime_ns == made


@needs_compiler
def test_a_changed_source_is_compiled_anew(tripler):
    kernels.load_kernel("tripler")
    tripler.write_text(tripler.read_text().replace("3 *", "4 *"))
    kernels.load_kernel.cache_clear()
    assert kernels.load_kernel("tripler").triple(ctypes.c_int(14)) == 56


@needs_compiler
def test_a_source_that_does_not_compile_leaves_the_twin_and_no_files(tripler, caplog):
    tripler.write_text("this is not C++")
    assert_not_loaded("tripler", caplog, "The native tripler kernel is not used")
    assert list(kernels.cache_folder().iterdir()) == []


def test_without_a_compiler_the_twin_is_used(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert_not_loaded("crf", caplog, "no C++ compiler was found")


@needs_compiler
def test_a_cache_that_cannot_be_written_leaves_the_twin(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_not_loaded("crf", caplog, "The native crf kernel is not used")


def test_kernels_can_be_switched_off(monkeypatch, caplog):
    monkeypatch.setenv("DECONVNET_KERNELS", "off")
    assert kernels.load_kernel("crf") is None
    assert not caplog.messages


def test_the_cache_is_in_the_home_folder_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kernels.cache_folder() == Path.home() / ".cache" / "deconvnet" / "kernels"
