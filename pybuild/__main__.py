"""``python -m pybuild``."""

import os
import sys

if __name__ == "__main__":
    # -m puts the current directory first on sys.path: a build context that has a json.py would
    # run it. It stays only where pybuild itself is run from an unpacked source tree.
    here = os.getcwd()
    if sys.path and sys.path[0] == here and not __file__.startswith(f"{here}/pybuild/"):
        del sys.path[0]
    from pybuild.main import main

    main()
