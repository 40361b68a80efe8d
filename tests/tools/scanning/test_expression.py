from __future__ import annotations

import ast

import pytest

from tools.scanning.expression import dotted_name, judge_expression, judge_import, parse_import, substitute_references
from tools.scanning.findings import AllowList

ALLOW = AllowList(
    imports=("os", "numpy as np"),
    attributes=("run", "shape"),
    expressions=(
        "$sys.path.insert(0, @root)",
        "$eval('1')",
        "$setattr(@a, 'other', 1)",
        "$sys.path.index('bundles/<bundle>')",
        "$@folder + '/model.pt'",
        "$@a.other[0]",
    ),
)


@pytest.mark.parametrize(
    "expression",
    [
        *("@a", "@a::b::0.run()", "@f(@x)", "len(@a)", "@a.run(1, n=None)", "[*@a.shape, @b]", "(@a, 1.5, True)"),
        *("sys.path.insert(0, @root)", "setattr(@a, 'other', 1)", "@folder + '/model.pt'", "@a.other[0]"),
        *("sys.path.index('bundles/my_method_2')", "@a.run(@b.shape)"),
    ],
)
def test_what_is_listed_is_allowed(expression):
    assert judge_expression(expression, ALLOW) == ""


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("@a.other", ".other isn't"),
        ("sys.path.index('bundles/a/../b')", "sys.path.index is from outside"),
        ("torch.load('x')", "torch.load can"),
        ("torch", "torch is from outside"),
        ("os.environ", "os.environ is from outside"),
        ("os.remove('x')", "os.remove is never"),
        ("np.load('x')", "numpy.load can"),
        ("np.uint8", "numpy.uint8 is from outside"),
        ("eval('1')", "eval is never"),  # although it is listed
        ("open('x')", "open is never"),
        ("@a.__class__", ".__class__ is never"),
        ("@__a__", "two underscores"),
        ("getattr(@a, '__class__')", ".__class__ is never"),
        ("getattr(@a, 'sha' + 'pe')", "a computed name"),
        ("[len for len in @a]", "ListComp"),
        ("(lambda os: os.shape)(@a)", "another meaning"),
        ("(lambda x: x)(@a)", "calls what isn't"),
        ("[f(1) for f in @a]", "calls what isn't"),
        ("@f(1)(2)", "calls what isn't"),
        ("(x := @a)", "NamedExpr"),
        ("2 ** 9 ** 9", "Pow"),
        ('f"{@a}"', "JoinedStr"),
        ("@imports::0.run()", "from `imports`"),
        ("__local_refs['a']", "MONAI's own table"),
        ("@::a", "relative"),
        ("@#a", "relative"),
        ("len(@a) if", "SyntaxError"),
        ("'@and'+str(1)", "str is from outside"),
        ("'x'", "Constant"),
        ("b'x'", "Constant"),
        ("@a.run('x')", "Constant"),
        ("@a + @b", "BinOp"),
        ("@a * 2", "BinOp"),
        ("@a[0]", "takes a part"),
        ("@a or @b", "BoolOp"),
        ("@a if @b else @c", "IfExp"),
        ("-@a", "UnaryOp"),
        ("@a > 1", "Compare"),
        ("{'a': @a}", "Dict"),
        ("@folder + '/model.pt' + '/..'", "as a whole it isn't"),
        ("1 +" * 3000, "longer"),
        ("(" * 900 + ")" * 900, "no Python"),
        ("ｅval('1')", "eval is never"),  # Python reads wide letters as plain ones
    ],
)
def test_what_is_not_listed_is_refused(expression, reason):
    assert reason in judge_expression(expression, ALLOW)


def test_references_are_put_in_as_monai_does():
    from monai.bundle.reference_resolver import ReferenceResolver

    for text in ("$@a + @ab::c", "$'@and'+str(@x#0)", "$@a@b", "$@", "$x @ y", "$@a::b::-1", "$'@'@"):
        references = dict.fromkeys(ReferenceResolver.match_refs_pattern(text), 1)
        assert f"${substitute_references(text[1:])}" == ReferenceResolver.update_refs_pattern(text, references)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        *(("import os", True), ("import numpy as np", True), ("import numpy", False), ("import os as np", False)),
        *(
            ("from os import path", False),
            ("import os, sys", False),
            ("import os; 1", False),
            ("import os.path", False),
        ),
    ],
)
def test_imports(text, allowed):
    assert parse_import(text) is not None
    assert (judge_import(text, ALLOW) == "") is allowed


def test_what_is_no_import():
    assert parse_import("os.import_") is None and parse_import("1; import os") is None and parse_import("(") is None


def test_dotted_name():
    chain = ast.parse("a.b.c", mode="eval").body
    assert dotted_name(chain) == "a.b.c"
    assert dotted_name(ast.parse("a().b", mode="eval").body) == ""
