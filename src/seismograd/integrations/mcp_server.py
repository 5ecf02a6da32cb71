"""A server of the Model Context Protocol over stdin and stdout: read-only tools about runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from seismograd.errors import SeismogradError, unreadable
from seismograd.package_info import VERSION
from seismograd.views.agents.answers import RunQuestions
from seismograd.views.agents.bounded import DATA_ONLY, bounded_text

INSTRUCTIONS = (
    "seismograd records the gradients of PyTorch trainings and says what is wrong with them. "
    "Begin with `findings` for the newest run, or `list_runs`; `explain` says how a rule decides "
    "and when it can be wrong. All tools only read. " + DATA_ONLY
)


def make_server(folder: Path) -> Any:
    """Return a server that answers questions about the runs in a folder."""
    server_module = import_module("mcp.server.mcpserver")
    tool_error = import_module("mcp.server.mcpserver.exceptions").ToolError
    read_only = import_module("mcp_types").ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    server = server_module.MCPServer(
        "seismograd", instructions=INSTRUCTIONS, version=VERSION, log_level="ERROR"
    )
    questions = RunQuestions(folder)
    for question in (
        questions.list_runs,
        questions.findings,
        questions.series,
        questions.why,
        questions.compare,
        questions.explain,
    ):
        server.add_tool(
            _answering(question, folder, tool_error),
            description=" ".join((question.__doc__ or "").split()),
            annotations=read_only,
            structured_output=False,
        )
    return server


def serve(folder: Path) -> None:
    """Serve until stdin ends."""
    make_server(folder).run("stdio")


def _answering(
    question: Callable[..., str], folder: Path, tool_error: type[Exception]
) -> Callable[..., str]:
    @functools.wraps(question)
    def answer(*args: Any, **kwargs: Any) -> str:
        try:
            return question(*args, **kwargs)
        except SeismogradError as error:
            raise tool_error(bounded_text(error.line())) from None
        except Exception as error:  # a record that is damaged, or made to do harm
            raise tool_error(bounded_text(unreadable(folder, error).line())) from None

    return answer
