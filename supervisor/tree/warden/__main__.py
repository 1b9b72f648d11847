"""python -I -S .../tree/warden/__main__.py [openclaw] SUPERVISOR END: how a warden is started, and known by others.

`openclaw`, where it holds a lock: a gateway takes away that of a process that has no such argument. SUPERVISOR: the pid
of whoever starts it. END: the number of descriptors it is given. This file is compiled at each start: the rest is not.
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])

from warden.watch import main  # type: ignore[import-not-found] # by this name, without `supervisor`

main(supervisor=int(sys.argv[-2]), end=int(sys.argv[-1]))
