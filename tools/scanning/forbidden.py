"""Names that run code, start processes or reach the network: what no allow-list of a config may permit."""

from __future__ import annotations

import re
import sys

BUILTINS = frozenset(
    "eval exec compile open __import__ breakpoint globals locals vars input help exit quit memoryview".split()
)
# modules that a config has no business with, also where another one happens to carry them (torch.serialization.os)
MODULES = frozenset(
    "os sys subprocess builtins importlib imp shutil ctypes _ctypes cffi socket ssl urllib requests http "
    "ftplib smtplib telnetlib asyncio pickle _pickle cloudpickle dill joblib marshal shelve copyreg runpy pty "
    "pdb bdb code codeop posix nt signal multiprocessing threading _thread inspect gc pkgutil zipimport site "
    "pydoc timeit trace webbrowser types tempfile pathlib glob io fire operator platform resource sysconfig "
    "distutils setuptools pip".split()
)
# of these roots, these are the only parts that an allow-list can permit in a config
HARMLESS = (
    "os.environ",
    "os.path",
    "os.sep",
    "os.getcwd",
    "os.cpu_count",
    "sys.path",
    "sys.stdout",
    "sys.stderr",
    "sys.platform",
    "sys.version_info",
    "pathlib.Path",
    "glob.glob",
    "operator.itemgetter",
)
PREFIXES = (
    "torch.load",
    "torch.save",
    "torch.from_file",
    "torch.hub",
    "torch.package",
    "torch.ops",
    "torch.classes",
    "torch.library",
    "torch.compile",
    "torch.jit.load",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
    "torch.multiprocessing",
    "torch.distributed.rpc",
    "torch.distributed.run",
    "torch.distributed.launch",
    "torch.distributed.elastic",
    "torch._",
    "numpy.load",
    "numpy.save",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.ctypeslib",
    "numpy.f2py",
    "numpy.testing",
    "numpy.distutils",
    "numpy.lib",
    "numpy._",
    "monai.bundle",
    "monai.apps",
    "monai.auto3dseg",
    "monai.fl",
    "monai._",
    "monai.utils.module",
    "monai.utils.misc",
    "monai.utils.optional_import",
    "monai.utils.instantiate",
    "monai.utils.load_submodules",
    "monai.utils.run_cmd",
    "monai.networks.utils",
    "logging.config",
    "string.Formatter",
    "typing.ForwardRef",
    "typing.get_type_hints",
    "scipy.io",
    "scipy._",
)
_ALSO_FUNCTIONS = {"io", "types", "signal", "trace"}  # scipy.signal, torch.trace
ATTRIBUTES = frozenset(
    "system popen startfile fork kill load_library load_module exec_module load_state_dict_from_url "
    "f_globals f_locals f_back f_builtins f_code gi_frame gi_code cr_frame cr_code ag_frame ag_code tb_frame tb_next "
    "func_globals get_code create_module find_loader show pager ctypes _ctypes".split()
)
# methods by which a file is written, moved or read as code: never taken for a bundle's own, whoever defines one
FILE_METHODS = frozenset(
    "open write writelines write_text write_bytes unlink touch rename replace mkdir rmdir rmtree remove removedirs "
    "chmod lchmod symlink_to hardlink_to link_to save save_as savefig savetxt savez tofile to_filename to_file_map "
    "dump dumps to_csv to_pickle read_pickle loads from_file extract extractall extractfile print_figure print_png "
    "register_module_backward_hook add_module compile run_path run_module".split()
)
# from outside, with arguments that run code or hand out classes: only in files that were reviewed
REVIEWED_ONLY = frozenset(
    "monai.transforms.LoadImage monai.transforms.LoadImaged monai.transforms.SaveImage monai.transforms.SaveImaged "
    "typing.get_type_hints dataclasses.make_dataclass functools.singledispatch string.Formatter operator.attrgetter "
    "operator.methodcaller subprocess.run os.environ sys.modules importlib.import_module "
    "importlib.util.module_from_spec tarfile.open zipfile.ZipFile __mro__".split()
)


_ELSEWHERE = re.compile(r"/|~|[A-Za-z]:[\\/]|\\\\|.*://|(.*[\\/])?\.\.([\\/]|$)", re.DOTALL)


def leads_elsewhere(path: str) -> bool:
    """Whether a text, read as a path or address, leads out of the folder that it is resolved in."""
    return _ELSEWHERE.match(path) is not None


def is_dunder(name: str) -> bool:
    """`__class__` and its like: the way from any object to every other."""
    return name.startswith("__")


def forbidden(dotted: str) -> str:
    """Say why a dotted name is never allowed in a config, or "" where an allow-list may decide."""
    parts = dotted.split(".")
    if any(is_dunder(part) for part in parts):
        return "a name with two underscores"
    if len(parts) == 1:
        return f"{dotted} is never allowed" if dotted in BUILTINS | MODULES else ""
    if _within(dotted, HARMLESS):
        harmless = next(name for name in HARMLESS if _within(dotted, (name,)))
        rest = dotted[len(harmless) :].split(".")
        return f"{dotted} is never allowed" if set(rest) & (MODULES | ATTRIBUTES) else ""
    if parts[0] in MODULES:
        return f"{dotted} is never allowed"
    return hidden_danger(dotted)


def hidden_danger(dotted: str) -> str:
    """Say why a name inside an otherwise harmless package is dangerous, or ""."""
    parts = dotted.split(".")
    if {part.strip("_") for part in parts[1:]} & (MODULES - _ALSO_FUNCTIONS):
        return f"{dotted} reaches a system module through another one"
    if set(parts[1:]) & ATTRIBUTES:
        return f"{dotted} is never allowed"
    # "torch._" stands for all that is private there
    if any(dotted.startswith(prefix) if prefix.endswith("_") else _within(dotted, (prefix,)) for prefix in PREFIXES):
        return f"{dotted} can load or run code"
    return ""


def is_standard_module(name: str) -> bool:
    return name in sys.stdlib_module_names


def _within(dotted: str, names: tuple[str, ...]) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in names)
