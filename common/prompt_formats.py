"""Names of the prompt's forms; `common.prompt_utils` makes them."""

PROMPT_FORMATS = ("solution_marker", "signature", "chat")
