"""Wrong doses on purpose: changes one operator at a time and demands that a test notices.

Run: python tests/slow/mutate_clinic.py [module …] [--only N]. Every mutant of the modules that
make a dose (comparisons, arithmetic, min and max, constants, conditions, statements) is loaded in
a forked process in place of the real module, and the clinic's tests are run against it. Printed
are the survivors; exit is 1 if there is one that is not listed in ALIKE with the reason why no
number can change.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType

# Loaded once in the parent, so that a forked child starts at once. Nothing of the clinic is.
import hypothesis
import numpy as np
import pytest
import scipy.ndimage
import yaml

_WARM = (hypothesis, np, scipy.ndimage, yaml)

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "app" / "clinic"
TESTS = ROOT / "tests" / "app" / "clinic"
MODULES = (
    "evidence",
    "products",
    "amount",
    "caps",
    "position",
    "dose_rows",
    "dosing",
    "session",
    "cautions",
    "follow_up",
    "comparison",
)
QUICK = (
    "test_dosing.py",
    "test_sessions.py",
    "test_worked_examples.py",
    "test_plan.py",
    "test_inputs.py",
    "test_no_conversion.py",
    "test_plan_main_job.py",
)
FIRST = {
    "session": "test_sessions.py",
    "follow_up": "test_sessions.py",
    "comparison": "test_sessions.py",
    "cautions": "test_plan.py",
}
"""The file that notices most mutants of a module, run alone first; else test_dosing.py."""

SECONDS = 120
"""A mutant that runs longer than this (an endless loop) counts as noticed."""

ALIKE: dict[str, str] = {
    "amount abs(after - before) > TOLERANCE  →  abs(after - before) >= TOLERANCE": "no difference "
    "is exactly the tolerance of floating point",
    "caps 0.0  →  1.0": "the loader refuses a cumulative cap without its window",
}
"""Mutants that change no number, by their name without the line, each with the reason."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
NAMES = {"min": "max", "max": "min", "floor": "ceil", "ceil": "floor", "any": "all", "all": "any"}


class Mutant:
    """One changed place: the tree with it, and what it was and is, in words."""

    def __init__(self, module: str, line: int, before: str, after: str, tree: ast.Module) -> None:
        self.module, self.line, self.before, self.after = module, line, before, after
        self.tree = tree

    @property
    def name(self) -> str:
        """What was changed into what, without the line, which moves."""
        return f"{self.module} {self.before}  →  {self.after}"


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that may be changed: no words, no annotations, no docstrings."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.ImportFrom | ast.Import):
            skipped.update(id(inner) for inner in ast.walk(node))
        for annotation in (
            getattr(node, "annotation", None),
            getattr(node, "returns", None),
        ):
            if annotation is not None:
                skipped.update(id(inner) for inner in ast.walk(annotation))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in WORDS:
            for keyword in node.keywords:
                if keyword.arg in ("text", "equation", "name", "remedy", "reason", "unit"):
                    skipped.update(id(inner) for inner in ast.walk(keyword.value))
        for decorator in getattr(node, "decorator_list", []):
            skipped.update(id(inner) for inner in ast.walk(decorator))
    for node in ast.walk(tree):
        if id(node) not in skipped:
            yield node


WORDS = {"Step", "DoseCaution", "Caution", "Question", "Cut", "VolumeComparison", "DoseRefused"}
"""Calls whose text arguments are words, not numbers."""


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The replacements for one node, each a copy."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[index] = COMPARISONS[type(operator)]()
            yield other
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        if not isinstance(node.left, ast.Constant) or not isinstance(node.left.value, str):
            other_op = copy.deepcopy(node)
            other_op.op = ARITHMETIC[type(node.op)]()
            yield other_op
    elif isinstance(node, ast.BoolOp):
        other_bool = copy.deepcopy(node)
        other_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield other_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in NAMES:
        yield ast.Name(id=NAMES[node.id], ctx=ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        other_attribute = copy.deepcopy(node)
        other_attribute.attr = NAMES[node.attr]
        yield other_attribute
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(value=node.value + 1)
    elif isinstance(node, ast.If):
        other_if = copy.deepcopy(node)
        other_if.test = ast.UnaryOp(op=ast.Not(), operand=other_if.test)
        yield other_if
    elif isinstance(node, ast.IfExp):
        other_exp = copy.deepcopy(node)
        other_exp.body, other_exp.orelse = other_exp.orelse, other_exp.body
        yield other_exp
    elif isinstance(node, ast.AugAssign | ast.Continue | ast.Break):
        yield ast.Pass()


def shown(node: ast.AST) -> str:
    """The node as one short line of source."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."


class _Swap(ast.NodeTransformer):
    def __init__(self, place: ast.AST, other: ast.AST) -> None:
        self.place, self.other = place, other

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.place:
            return ast.copy_location(self.other, node)
        return self.generic_visit(node)


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of one module, in the order of its lines."""
    source = (ROOM / f"{module}.py").read_text(encoding="utf-8")
    count = len(list(places(ast.parse(source))))
    for index in range(count):
        tries = len(list(changed(list(places(ast.parse(source)))[index])))
        for attempt in range(tries):
            tree = ast.parse(source)
            place = list(places(tree))[index]
            other = list(changed(place))[attempt]
            before, after, line = shown(place), shown(other), getattr(place, "lineno", 0)
            new = ast.fix_missing_locations(_Swap(place, other).visit(tree))
            yield Mutant(module, line, before, after, new)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder(importlib.abc.MetaPathFinder):
    """Gives the mutant in place of the module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = f"app.clinic.{mutant.module}"
        self.path = str(ROOM / f"{mutant.module}.py")
        self.code = compile(mutant.tree, self.path, "exec")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Loader(fullname, self.path, self.code)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def noticed(mutant: Mutant | None, tests: Sequence[str], cases: int) -> bool:
    """True if a test fails, or the run hangs, with the mutant in place (None: the real thing)."""
    child = os.fork()
    if child == 0:
        os.environ["SONODOSE_CASES"] = str(cases)
        signal.alarm(SECONDS)
        status = 3
        with contextlib.suppress(BaseException):
            sys.path.insert(0, str(ROOT))
            if mutant is not None:
                sys.meta_path.insert(0, _Finder(mutant))
            arguments = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--assert=plain",
                f"--confcutdir={TESTS}",
            ]
            with contextlib.redirect_stdout(io.StringIO()):
                status = int(pytest.main([*arguments, *(str(TESTS / test) for test in tests)]))
        os._exit(status)
    _, result = os.waitpid(child, 0)
    return result != 0


def main(arguments: Sequence[str]) -> int:
    """Runs the mutants and prints the survivors; 0 if none of them changes a number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--only", type=int, default=0, help="stop after so many mutants")
    parser.add_argument("--every", type=int, default=1, help="take only each n-th mutant")
    parser.add_argument("--verbose", action="store_true", help="say each mutant on stderr")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    if noticed(None, QUICK, 5) or noticed(None, ["test_properties.py"], 5):
        print("The tests fail without any mutant: mend that first.")
        return 1
    start = time.monotonic()
    survivors: list[str] = []
    total = 0
    for module in options.modules:
        for index, mutant in enumerate(mutants(module)):
            if options.only and total >= options.only:
                break
            if index % options.every:
                continue
            total += 1
            if options.verbose:
                print(f"{total:4d}  line {mutant.line}: {mutant.name}", file=sys.stderr, flush=True)
            if (
                noticed(mutant, [FIRST.get(module, "test_dosing.py")], 5)
                or noticed(mutant, QUICK, 5)
                or noticed(mutant, ["test_properties.py"], 40)
            ):
                continue
            reason = ALIKE.get(mutant.name)
            said = f"  ({reason})" if reason else ""
            print(f"survived  line {mutant.line}: {mutant.name}{said}", flush=True)
            if reason is None:
                survivors.append(mutant.name)
    print(
        f"{total} mutants of {', '.join(options.modules)} in {time.monotonic() - start:.0f} s: "
        f"{len(survivors)} survived that may change a number."
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
