"""The history of the tables; run at the start of the service."""
