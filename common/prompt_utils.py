"""The only maker of prompts.

`solution_marker` is the prompt of the published study of program-validity features (arXiv 2510.02917): the problem, its
assertions, and a marker after which the model writes its solution. `signature` shows the problem as a docstring and
ends with the `def` line of the asked-for function. `chat` wraps the default prompt in the tokenizer's chat template.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from common.errors import UsageError, suggest
from common.problems import Problem
from common.prompt_formats import PROMPT_FORMATS

SOLUTION_MARKER = "# Solution:"


class PromptBuilder:
    """Builds the prompt of a problem in one of `PROMPT_FORMATS`.

    `chat_template` turns the text of one user turn into the templated string (without the tokenizer's own special
    tokens being added a second time); it is needed for `chat` only.
    """

    def __init__(
        self, prompt_format: str = "solution_marker", chat_template: Callable[[str], str] | None = None
    ) -> None:
        if prompt_format not in PROMPT_FORMATS:
            known = ", ".join(PROMPT_FORMATS)
            raise UsageError(
                f"prompt format {prompt_format!r} is unknown (known: {known}){suggest(prompt_format, PROMPT_FORMATS)}"
            )
        if prompt_format == "chat" and chat_template is None:
            raise UsageError(
                "prompt format 'chat' needs a tokenizer with a chat template; use --prompt-format solution_marker"
            )
        self.prompt_format = prompt_format
        self._chat_template = chat_template

    def build(self, problem: Problem) -> str:
        """Returns the prompt of `problem`, without a trailing newline in the default format."""
        if self.prompt_format == "signature":
            return signature_prompt(problem)
        prompt = solution_marker_prompt(problem.text, problem.test_list)
        if self._chat_template is not None and self.prompt_format == "chat":
            return self._chat_template(prompt)
        return prompt


def solution_marker_prompt(text: str, test_list: Sequence[str]) -> str:
    """Returns text, blank line, the assertions one a line exactly as given, blank line, `# Solution:`."""
    return "\n".join([text, "", *test_list, "", SOLUTION_MARKER])


def signature_prompt(problem: Problem) -> str:
    """Returns the problem's text as a docstring followed by the `def` line of the reference's entry point."""
    definition = definition_line(problem.code, problem.entry_point)
    text = problem.text.replace('"""', "'''")
    return f'"""\n{text}\n"""\n{definition}\n'


def definition_line(code: str, entry_point: str) -> str:
    """Returns the `def` line(s) of the function `entry_point` in `code`, up to and including the colon."""
    source = code.replace("\r\n", "\n").expandtabs(4)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point:
            keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            return f"{keyword} {node.name}({ast.unparse(node.args)}){returns}:"
    raise UsageError(f"the reference solution does not define {entry_point!r}, the function that its tests call")
