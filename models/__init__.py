"""The network: the only room with torch, and torch only for training and export."""
