"""From a request and an image to a plan: one study, no database."""
