"""How images come in: examined, unpacked, archived, routed."""
