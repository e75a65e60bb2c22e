"""The routes, one module a theme; each has a `router`."""
