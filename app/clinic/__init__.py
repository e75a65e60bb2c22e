"""From square millimetres to Units and sites: pure functions over reviewed tables."""
