"""Frames of every traceback, however deep, strange or hostile."""

from __future__ import annotations

import json
import linecache
import os
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from errata import chain
from errata.budget import Budget
from errata.report import Frame
from errata.stack import FRAME_CHARACTERS, MAX_FRAMES, draw_frames
from tests.hostile import TRAPS, Stopwatch, hostile, raised


HERE = __file__


def frames_of(
    failing: Callable[[], object] | BaseException, limit: int = MAX_FRAMES, **budget: Any
) -> tuple[Frame, ...]:
    """Return the frames of what *failing* raises."""
    exc = failing if isinstance(failing, BaseException) else raised(failing)
    frames = Budget(characters=FRAME_CHARACTERS)
    return draw_frames(exc.__traceback__, Budget(lasting=True, **budget), frames, limit)


def code_in(file: str, source: str = "raise ValueError", name: str = "app") -> Callable[[], None]:
    """Return a function that runs *source* as the module *name* of *file*."""
    code = compile(source, file, "exec")
    return lambda: exec(code, {"__name__": name})


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A `linecache` that forgets what the test puts into it."""
    monkeypatch.setattr(linecache, "cache", {})
    return iter(())


def _inner(number: int) -> float:
    doubled = number * 2
    return doubled / 0


def _outer() -> float:
    text = "words"
    return _inner(len(text))


def test_a_frame_says_where_and_with_what() -> None:
    """File, function, module, line, source and locals of every frame, outermost first."""
    outer, inner = frames_of(_outer)
    assert (outer.file, outer.function, outer.module) == (HERE, "_outer", __name__)
    assert outer.in_app
    assert outer.locals == {"text": "words"}
    assert inner.line == _inner.__code__.co_firstlineno + 2
    assert inner.locals == {"number": 5, "doubled": 10}
    assert inner.repeated == 0
    assert dict(inner.source)[inner.line] == "    return doubled / 0"
    assert [number for number, _ in inner.source] == list(range(inner.line - 5, inner.line + 6))


def test_methods_have_their_qualified_names() -> None:
    """`Class.method` is a better name than `method`."""

    class Shop:
        def sell(self) -> None:
            raise ValueError

    (frame,) = frames_of(Shop().sell)
    assert frame.function.endswith("Shop.sell")


def test_columns_mark_the_expression() -> None:
    """PEP 657: first line, last line, first column, end column, also over several lines."""

    def fail() -> object:
        return [
            len("x"),
            len(5),  # type: ignore[arg-type]
        ]

    (frame,) = frames_of(fail)
    assert frame.columns is not None
    first, last, start, end = frame.columns
    text = dict(frame.source)[first]
    assert (first, text[start:end]) == (last, "len(5)")

    def fail_over_lines() -> object:
        return int(
            "x",
        )

    (frame,) = frames_of(fail_over_lines)
    assert frame.columns is not None
    assert frame.columns[1] == frame.columns[0] + 2


def test_code_without_positions_has_no_columns() -> None:
    """Positions may be stripped, and code may be too long to search."""
    code = compile("raise ValueError", "<stripped>", "exec")
    bare = types.FunctionType(code.replace(co_linetable=b""), {})
    (frame,) = frames_of(bare)
    assert frame.columns is None
    assert frame.line >= 0
    long = code_in("<long>", "x = 1\n" * 12_000 + "raise ValueError")
    assert frames_of(long)[-1].columns is None


# Whose code.


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/app/views.py", True),
        ("views.py", True),
        ("<string>", True),
        ("<frozen importlib._bootstrap>", False),
        (json.__file__, False),
        (str(Path("x", "site-packages", "lib", "a.py")), False),
        (str(Path("x", "dist-packages", "a.py")), False),
        (chain.__file__, False),
        (chain.__file__.replace("chain.py", "demo/shop.py"), True),
    ],
)
def test_the_apps_own_code_is_known(file: str, own: bool) -> None:
    """Not the standard library's, no package's and not ours, but for the demo's."""
    assert frames_of(code_in(file))[-1].in_app is own


@pytest.mark.parametrize("name", ["errata.middleware", "errata.integrations.django"])
def test_our_own_frames_in_front_are_skipped(name: str) -> None:
    """A report begins where the app begins, not with the middleware around it."""
    call: dict[str, Any] = {"__name__": name}
    exec("def around(app): app()", call)
    exc = raised(lambda: call["around"](_outer))
    assert [frame.module for frame in frames_of(exc)] == [__name__, name, __name__, __name__]
    assert exc.__traceback__ is not None
    exc.__traceback__ = exc.__traceback__.tb_next
    assert [frame.function for frame in frames_of(exc)] == ["_outer", "_inner"]


def test_an_error_of_our_own_keeps_its_frame() -> None:
    """Where all is ours, the innermost frame is what is to be seen."""
    exc = raised(code_in("x.py", name="errata.middleware"))
    assert exc.__traceback__ is not None
    exc.__traceback__ = exc.__traceback__.tb_next
    assert [frame.module for frame in frames_of(exc)] == ["errata.middleware"]
    demo = raised(code_in("x.py", name="errata.demo.shop"))
    assert frames_of(demo)[-1].module == "errata.demo.shop"


def test_frames_can_hide() -> None:
    """`__traceback_hide__` leaves a frame out, as Werkzeug and Sentry do."""

    def hidden() -> None:
        __traceback_hide__ = True
        shown()

    def shown() -> None:
        __traceback_hide__ = False
        raise ValueError

    def odd() -> None:
        __traceback_hide__ = hostile(object)
        hidden()

    assert [frame.function.rpartition(".")[2] for frame in frames_of(odd)] == ["odd", "shown"]


# Source.


def test_code_without_a_file_has_no_source(own_cache: None) -> None:
    """`exec` of a text is a frame like any other, only without its lines."""
    frame = frames_of(code_in("<string>"))[-1]
    assert (frame.file, frame.function, frame.source) == ("<string>", "<module>", ())
    assert frames_of(code_in(""))[-1].file == "?"


def test_registered_source_is_found(own_cache: None) -> None:
    """What doctest, attrs or Jupyter put into `linecache` is shown."""
    lines = ["x = 1\n", "raise ValueError\n"]
    linecache.cache["<made up>"] = (1, None, lines, "<made up>")
    frame = frames_of(code_in("<made up>", "".join(lines)))[-1]
    assert frame.source == ((1, "x = 1"), (2, "raise ValueError"))


def test_new_source_replaces_the_old(own_cache: None) -> None:
    """When `linecache` reads a file again, so do we."""
    for text in ("raise ValueError # 1", "raise ValueError # 2"):
        linecache.cache["<cell>"] = (1, None, [text], "<cell>")
        assert frames_of(code_in("<cell>"))[-1].source == ((1, text),)


def test_source_in_an_archive_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: None
) -> None:
    """A loader that has the source of its modules is asked for it."""
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed_module.py", "def fail():\n    raise ValueError\n")
    monkeypatch.syspath_prepend(archive)
    fail = import_module("packed_module").fail
    monkeypatch.delitem(sys.modules, "packed_module")
    assert dict(frames_of(fail)[-1].source)[2] == "    raise ValueError"


def test_a_broken_loader_is_survived(own_cache: None) -> None:
    """A loader of somebody's own may raise."""

    class Loader:
        def get_source(self, name: str) -> str:
            raise ValueError(name)

    code = compile("raise ValueError", "nowhere.py", "exec")
    for loader in (Loader(), None, object()):
        spec = ModuleSpec("x", loader)  # type: ignore[arg-type]
        failing = raised(types.FunctionType(code, {"__name__": "x", "__spec__": spec}))
        assert frames_of(failing)[-1].source == ()


def test_only_quick_files_are_read(tmp_path: Path, own_cache: None) -> None:
    """Neither a huge file nor one that never ends holds up an error."""
    huge = tmp_path / "huge.py"
    huge.write_text("raise ValueError\n" + "#" * 2_000_001)
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    with Stopwatch():
        for file in (str(huge), str(pipe), str(tmp_path), "/dev/zero"):
            assert frames_of(code_in(file))[-1].source == ()
    small = tmp_path / "small.py"
    small.write_text("raise ValueError\n")
    assert frames_of(code_in(str(small)), seconds=-1)[-1].source == ()
    assert frames_of(code_in(str(small)))[-1].source == ((1, "raise ValueError"),)


def test_binary_files_are_no_source(tmp_path: Path, own_cache: None) -> None:
    """A file that is no text shows nothing."""
    file = tmp_path / "binary.py"
    file.write_bytes(b"\xff\xfe\x00" * 100)
    assert frames_of(code_in(str(file)))[-1].source == ()


def test_long_lines_are_cut(own_cache: None) -> None:
    """One line of a minified file is not the whole report; surrogates become escapes."""
    lines = ["x = '" + "a" * 10_000 + "'\n", "# \ud800\n"]
    linecache.cache["<wide>"] = (1, None, lines, "<wide>")
    (_, first), (_, second) = frames_of(code_in("<wide>"))[-1].source
    assert first.startswith("x = 'aaa")
    assert len(first) < 300
    assert second == "# \\ud800"


def test_files_of_odd_names_are_survived(own_cache: None) -> None:
    """The names of a file and a module are cut, made UTF-8 and made plain text."""
    odd = "\udcff" + "x" * 10_000
    assert frames_of(code_in(odd))[-1].file.startswith("\\udcffxxx")
    assert len(frames_of(code_in(odd))[-1].file) < 500
    text = type("Text", (str,), {})
    code = compile("raise ValueError", "a.py", "exec").replace(co_filename=text("b.py"))
    frame = frames_of(types.FunctionType(code, {"__name__": text("c")}))[-1]
    assert (frame.file, frame.module) == ("b.py", "c")
    assert type(frame.file) is type(frame.module) is str
    assert frames_of(types.FunctionType(code, {"__name__": 5}))[-1].module == "?"


def test_constants_of_somebodys_own_are_not_hashed() -> None:
    """A code object's own hash would ask its constants."""
    code = compile("raise ValueError", "a.py", "exec")
    odd = code.replace(co_consts=(*code.co_consts, hostile(object)))
    assert frames_of(types.FunctionType(odd, {}))[-1].function == "<module>"


# Locals.


def test_modules_show_variables_only() -> None:
    """Of a module neither functions, classes and imports nor dunder names are shown."""
    source = (
        "import json\nfrom math import pi, sin\ndef f(): ...\nclass C: ...\nx = 1\nraise ValueError"
    )
    shown = frames_of(code_in("<string>", source))[-1].locals
    assert shown == {"pi": 3.141592653589793, "x": 1}


def test_a_namespace_of_somebodys_own_is_not_asked() -> None:
    """A metaclass may prepare any mapping for the body of a class."""
    prepared = "__prepare__"
    meta = type("Meta", (type,), {prepared: classmethod(lambda *_: hostile_mapping())})
    source = "class C(metaclass=meta): raise ValueError"
    exc = raised(lambda: exec(source, {"meta": meta}))
    assert frames_of(exc)[-1].locals == {}


def hostile_mapping() -> Any:
    """Return a namespace that lets a class begin, and fails when anybody looks at it."""

    traps = {name: TRAPS[name] for name in ("items", "get", "keys", "__len__", "__iter__")}
    return type("Mapping", (dict,), traps)()


def test_closures_and_cells_are_shown() -> None:
    """Names of an enclosing function are locals too."""
    outer = [1]

    def fail() -> None:
        raise ValueError(outer)

    assert frames_of(fail)[-1].locals == {"outer": {"type": "list", "size": 1, "items": [1]}}


def test_many_locals_are_cut() -> None:
    """Thirty names of a frame are shown."""
    source = "".join(f"x{n} = {n}\n" for n in range(1_000)) + "raise ValueError"
    assert len(frames_of(code_in("<string>", source))[-1].locals) == 30


def test_inner_frames_have_their_locals_first() -> None:
    """When the budget ends, it is the outer frames that have none."""

    def recurse(depth: int, text: str) -> None:
        if depth == 0:
            raise ValueError
        exec("f(depth, text)", {"f": recurse, "depth": depth - 1, "text": text})

    frames = frames_of(lambda: recurse(20, "x" * 900), characters=5_000)
    assert frames[-1].locals["text"] == "x" * 900
    assert frames[1].locals == {}
    assert frames[1].source


def test_a_frame_has_a_share_of_the_nodes() -> None:
    """One deep value in every frame leaves each the outline of it."""
    deep = {f"a{n}": {f"b{m}": list(range(9)) for m in range(9)} for n in range(9)}

    def first(deep: object) -> None:
        second({**deep})  # type: ignore[dict-item]

    def second(deep: object) -> None:
        raise ValueError

    outer, inner = frames_of(lambda: first(deep))[1:]
    assert len(json.dumps(inner.locals)) > 2 * len(json.dumps(outer.locals)) > 500


# Depth.


def test_recursion_is_folded() -> None:
    """A function that calls itself a thousand times is one frame and a number."""

    def recurse() -> None:
        recurse()

    frames = frames_of(recurse)
    assert len(frames) <= 2
    assert frames[0].repeated + len(frames) > 900


@pytest.mark.parametrize("length", [2, 3, 8])
def test_mutual_recursion_is_folded(length: int) -> None:
    """Functions that call each other in turn are folded together."""
    names: dict[str, Any] = {"__name__": "app"}
    for number in range(length):
        exec(f"def f{number}(n):\n if n: f{(number + 1) % length}(n - 1)\n raise ValueError", names)
    frames = frames_of(lambda: names["f0"](100 * length - 1))
    assert len(frames) <= 2 * length + 1
    assert sum(frame.repeated + 1 for frame in frames) == 100 * length + 1
    assert frames[1].repeated >= 98


def test_a_pattern_with_repeats_inside_is_folded() -> None:
    """Twice one function, then another, over and over: the longer cycle wins."""
    names: dict[str, Any] = {"__name__": "app"}
    exec("def a(n):\n if n % 3 == 1: b(n - 1)\n a(n - 1) if n else 1 / 0", names)
    exec("def b(n): a(n - 1) if n else 1 / 0", names)
    frames = frames_of(lambda: names["a"](300))
    assert len(frames) < 15


def deep_traceback(depth: int, functions: int) -> types.TracebackType:
    """Return a traceback of *depth* steps through *functions* functions, one after the other."""
    frames = []
    for number in range(functions):
        exc = raised(code_in(f"file{number}.py", name=f"module{number}"))
        assert exc.__traceback__ is not None
        last = exc.__traceback__.tb_next or exc.__traceback__
        frames.append(last.tb_frame)
    traceback = None
    for step in range(depth - 1, -1, -1):
        frame = frames[step % functions]
        traceback = types.TracebackType(traceback, frame, 0, 1)
    assert traceback is not None
    return traceback


def test_the_middle_of_a_deep_stack_is_left_out() -> None:
    """Of 500 different frames the outer 30 and the inner 70 are kept, and the gap is counted."""
    exc = ValueError().with_traceback(deep_traceback(500, 500))
    frames = frames_of(exc)
    assert len(frames) == 101
    gap = frames[30]
    assert (gap.file, gap.line, gap.repeated) == ("", 0, 400)
    assert [frames[0].module, frames[29].module] == ["module0", "module29"]
    assert [frames[31].module, frames[-1].module] == ["module430", "module499"]
    assert len(frames_of(exc, limit=10)) == 11


def test_endless_tracebacks_are_fast() -> None:
    """A hundred thousand frames are walked, folded and cut in a moment."""
    for functions in (1, 8, 9, 1_000):
        exc = ValueError().with_traceback(deep_traceback(100_000, functions))
        with Stopwatch():
            assert len(frames_of(exc)) <= 101


def test_frames_end_with_their_budget() -> None:
    """When the characters end, the outer frames are one gap."""
    traceback = deep_traceback(90, 90)
    drawn = draw_frames(traceback, Budget(), Budget(characters=10_000))
    assert drawn[0].file == ""
    assert drawn[0].repeated == 90 - len(drawn) + 1
    assert drawn[-1].module == "module89"


def test_no_traceback_is_no_frame() -> None:
    """An exception that was never raised has none."""
    assert frames_of(ValueError()) == ()
