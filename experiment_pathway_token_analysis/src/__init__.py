"""Steps 0 to 5 of the pathway and token analysis, each a module, and what they share."""
