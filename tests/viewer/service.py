"""The real service for the viewer's tests: only the network is a stand-in of known answer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> None:
    """Serves on the port of the settings until it is ended."""
    # Workers read this file again and must not load the web for it.
    import uvicorn

    from api.main import create_app
    from app.services import open_services
    from app.settings import Settings
    from tests.viewer import phantoms

    settings = Settings()
    parts = open_services(settings, run=phantoms.run, warm=phantoms.warm_up)
    uvicorn.run(
        create_app(parts), host="127.0.0.1", port=settings.port, log_level="warning", http="h11"
    )


if __name__ == "__main__":
    main()
