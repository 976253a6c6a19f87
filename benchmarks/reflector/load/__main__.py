"""Build the load generator and run it with the given options."""

import os
import sys

from benchmarks.reflector.load import LoadError, build

try:
    program = build()
except LoadError as error:
    sys.exit(str(error))
os.execv(program, [str(program), *sys.argv[1:]])
