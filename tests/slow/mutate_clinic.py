"""Wrong doses on purpose: changes one place at a time and demands that a test notices.

Run: python tests/slow/mutate_clinic.py [module …] [--only N]. A mutant of the modules that make a
dose is the module with one change: a comparison moved by its boundary or turned round, another
arithmetic operator, min for max, one of their arguments left out, another number, a condition
negated or a part of it left out, a filter of a comprehension or a member of a list dropped,
nothing returned, a statement removed. Each is loaded in a forked process in place of the real
module, and the clinic's tests are run against it. Printed are the survivors; exit is 1 if there is
one that is not listed in ALIKE with the reason why no number can change.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
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
    "dose_cautions",
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
"""The file that notices most mutants of a module, run first; else test_dosing.py."""

SECONDS = 120
"""A mutant that runs longer than this (an endless loop) counts as noticed."""

ALIKE: dict[str, str] = {
    "amount abs(after - before) > TOLERANCE  →  abs(after - before) >= TOLERANCE": "no difference "
    "is exactly the tolerance of floating point",
    "dosing a.after_units < a.before_units  →  a.after_units <= a.before_units": "no adjustment "
    "leaves the Units as they were",
    "dosing amount.units < low - TOLERANCE  →  amount.units <= low - TOLERANCE": "no dose is "
    "exactly the tolerance below",
    "cautions inputs.product is None or population is None or (not dates)  →  population is None "
    "or not dates": "no treatment is without a product, so without one there are no dates",
    "dose_cautions amount.units < case.low - TOLERANC…  →  amount.units <= case.low - "
    "TOLERANC…": "no dose is exactly the tolerance below",
    "dose_rows same and age is not None and (age < i.age_min_years)  →  same and age < "
    "i.age_min_years": "an unknown age was refused before",
    "follow_up after is None or today is None or after.po…  →  after is None or after.po…": "told "
    "to the type checker: without today there is nothing after",
    "dosing units < dose.label_min_unit…  →  units <= dose.label_min_unit…": "no dose is exactly "
    "the tolerance below",
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


REMOVED = (ast.AugAssign, ast.Assign, ast.Continue, ast.Break, ast.Raise)
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}


class Mutant:
    """One changed place: the module's code with it, and what it was and is, in words."""

    def __init__(self, module: str, line: int, before: str, after: str, code: CodeType) -> None:
        self.module, self.line, self.before, self.after = module, line, before, after
        self.code = code

    @property
    def name(self) -> str:
        """What was changed into what, without the line, which moves."""
        return f"{self.module} {self.before}  →  {self.after}"


WORDS = {
    "Step",
    "DoseCaution",
    "Caution",
    "Question",
    "Cut",
    "VolumeComparison",
    "DoseRefused",
    "InvalidInput",
    "UnknownProduct",
}
"""Calls whose text arguments are words, not numbers."""

TEXTS = ("text", "equation", "name", "remedy", "reason", "unit", "field")


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """(parent, field, place in the field's list, node) of what may be changed: no words, no
    annotations, no docstrings."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.ImportFrom | ast.Import):
            skipped.update(id(inner) for inner in ast.walk(node))
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                skipped.update(id(inner) for inner in ast.walk(annotation))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in WORDS:
            for keyword in node.keywords:
                if keyword.arg in TEXTS:
                    skipped.update(id(inner) for inner in ast.walk(keyword.value))
        if isinstance(node, ast.Raise):
            skipped.update(id(inner) for inner in ast.walk(node) if inner is not node)
        for decorator in getattr(node, "decorator_list", []):
            skipped.update(id(inner) for inner in ast.walk(decorator))
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            for index, node in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(node, ast.AST) and id(node) not in skipped:
                    yield parent, name, index if isinstance(value, list) else None, node


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The replacements for one node; they share what they keep of it."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for table in (COMPARISONS, TURNED):
                if type(operator) in table:
                    ops = [*node.ops]
                    ops[index] = table[type(operator)]()
                    yield ast.Compare(node.left, ops, node.comparators)
        for index, against in enumerate(node.comparators):
            for fewer in _without_one(against):
                comparators = [*node.comparators]
                comparators[index] = fewer
                yield ast.Compare(node.left, node.ops, comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        if not isinstance(node.left, ast.Constant) or not isinstance(node.left.value, str):
            yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for index in range(len(node.values)):
            rest = node.values[:index] + node.values[index + 1 :]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in NAMES:
        yield ast.Name(id=NAMES[node.id], ctx=ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], ast.Load())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(value=node.value + 1)
    elif isinstance(node, ast.If):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.comprehension):
        for index in range(len(node.ifs)):
            ifs = node.ifs[:index] + node.ifs[index + 1 :]
            yield ast.comprehension(node.target, node.iter, ifs, node.is_async)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("min", "max"):
        if len(node.args) > 1:
            for index in range(len(node.args)):
                args = node.args[:index] + node.args[index + 1 :]
                if len(args) > 1 or isinstance(args[0], ast.Starred):
                    yield ast.Call(node.func, args, node.keywords)
                else:
                    yield args[0]
    elif isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, ast.Constant) or node.value.value is not None:
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, REMOVED) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def _without_one(node: ast.AST) -> Iterator[ast.expr]:
    """A tuple or list with one of its members left out, each in turn."""
    if isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
        for index in range(len(node.elts)):
            yield ast.Tuple(node.elts[:index] + node.elts[index + 1 :], ast.Load())


def shown(node: ast.AST) -> str:
    """The node as one short line of source."""
    return " ".join(ast.unparse(node).split())


def shortly(before: str, after: str) -> tuple[str, str]:
    """Both texts without most of what they share at their beginning and end."""
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    start = max(0, start - 30)
    rest = next(
        (i for i, (a, b) in enumerate(zip(before[::-1], after[::-1], strict=False)) if a != b),
        min(len(before), len(after)),
    )
    rest = max(0, min(rest, len(before) - start, len(after) - start) - 20)

    def cut(text: str) -> str:
        end = len(text) - rest
        return ("…" if start else "") + text[start:end] + ("…" if rest else "")

    return cut(before), cut(after)


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of one module, in the order of its lines."""
    path = ROOM / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [place for place in places(tree) if any(True for _ in changed(place[3]))]
    for parent, name, index, node in sorted(found, key=lambda p: _line(p[3])):
        line = _line(node)
        for other in changed(node):
            before, after = shortly(shown(node), shown(other))
            if hasattr(node, "lineno"):
                ast.copy_location(other, node)
            _put(parent, name, index, other)
            code = compile(ast.fix_missing_locations(tree), str(path), "exec")
            _put(parent, name, index, node)
            yield Mutant(module, line, before, after, code)


def _put(parent: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def _line(node: ast.AST) -> int:
    line: int = getattr(node, "lineno", 0) or getattr(getattr(node, "target", None), "lineno", 0)
    return line


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
        self.code = mutant.code

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
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
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
                "-p",
                "pytest_timeout",
                "-p",
                "_hypothesis_pytestplugin",
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
    parser.add_argument("--first", type=int, default=0, help="with --every: begin with this one")
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
            if index % options.every != options.first:
                continue
            total += 1
            if options.verbose:
                print(f"{total:4d}  line {mutant.line}: {mutant.name}", file=sys.stderr, flush=True)
            first = FIRST.get(module, "test_dosing.py")
            others = [test for test in QUICK if test != first]
            if noticed(mutant, [first, *others], 5) or noticed(mutant, ["test_properties.py"], 40):
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
