"""`sonodose serve` by the settings of the environment, only its jobs are a stand-in of 0.3 s."""

from __future__ import annotations

import sys
from functools import partial


def main() -> int:
    """Serves until it is ended."""
    # Workers read this file again and must not load the web for it.
    import api.serve
    from app.services import open_services
    from app.settings import Settings
    from tests.app import workloads

    api.serve.open_services = partial(open_services, run=workloads.brief, warm=None)
    return api.serve.serve(Settings())


if __name__ == "__main__":
    sys.exit(main())
