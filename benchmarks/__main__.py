"""Lists the benchmarks, and runs one by name.

python -m benchmarks                      the list, then `reflector`
python -m benchmarks list                 the list
python -m benchmarks NAME [OPTION]...     one of them; `--help` lists its options
python -m benchmarks --quick              options without a name are for `reflector`
"""

from __future__ import annotations

import ast
import pkgutil
import runpy
import sys
from pathlib import Path

import benchmarks

DEFAULT = "reflector"
_FOLDER = Path(__file__).parent


def known() -> dict[str, str]:
    """Names of all benchmarks, with the first line of what they say of themselves."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("_"):
            continue
        source = _FOLDER / module.name / "__main__.py" if module.ispkg else _FOLDER / f"{module.name}.py"
        if source.exists():
            text = ast.get_docstring(ast.parse(source.read_text())) or ""
            found[module.name] = text.partition("\n")[0]
    return found


def _print_list(names: dict[str, str]) -> None:
    width = max(map(len, names))
    for name, text in names.items():
        print(f"  {name:{width}}  {text}", file=sys.stderr)


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
    sys.argv = [f"benchmarks.{name}", *rest]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
