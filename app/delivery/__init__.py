"""Sending: objects to archives, events to webhooks, the audit to a log server."""
