"""Lists the benchmarks, and runs one by name.

python -m benchmarks                      the list, then `reflector`
python -m benchmarks list                 the list
python -m benchmarks NAME [OPTION]...     one of them; `--help` lists its options
python -m benchmarks --quick              options without a name are for `reflector`
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

DEFAULT = "reflector"
_FOLDER = Path(__file__).parent


def known() -> dict[str, str]:
    """Modules of all benchmarks by name, each a file, or a folder with a `__main__.py` or with one file."""
    found: dict[str, str] = {}
    for path in sorted(_FOLDER.iterdir()):
        name = path.stem
        if name.startswith("_"):
            continue
        if path.suffix == ".py" or (path / "__main__.py").exists():
            found[name] = f"benchmarks.{name}"
        elif path.is_dir():
            for file in sorted(path.glob("[!_]*.py")):
                found[f"{name}.{file.stem}"] = f"benchmarks.{name}.{file.stem}"
    return found


def _first_line(module: str) -> str:
    """What a benchmark says of itself, without importing it."""
    file = _FOLDER.parent / module.replace(".", "/")
    source = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]


def _print_list(names: dict[str, str]) -> None:
    width = max(map(len, names))
    for name, module in names.items():
        print(f"  {name:{width}}  {_first_line(module)}", file=sys.stderr)


def main() -> None:
    """See the module."""
    names = known()
    arguments = sys.argv[1:]
    if arguments in (["list"], ["--help"], ["-h"]):
        print(__doc__, file=sys.stderr)
        _print_list(names)
        return
    if not arguments:
        _print_list(names)
        print(
            f"\nrunning {DEFAULT}; `python -m benchmarks --help` says how to run another\n", file=sys.stderr
        )
    name, *rest = arguments if arguments and not arguments[0].startswith("-") else [DEFAULT, *arguments]
    if name not in names:
        sys.exit(f"no benchmark {name!r}; there are {', '.join(names)}")
    sys.argv = [names[name], *rest]
    runpy.run_module(names[name], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
